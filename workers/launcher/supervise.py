"""Keep a service alive: what dies is started again, after pauses that grow. What is misconfigured is not."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

import anyio

from infra.bus.embedded import ServerMissing
from workers.launcher.exits import CONFIG, Failure, Misconfigured

__all__ = ["Pauses", "Service", "Signals", "first_of", "kept"]

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Say = Callable[[str], None]


class Service(Protocol):
    """Something that runs in a process of its own."""

    name: str

    async def run(self, serving: Callable[[], None]) -> int:
        """Start it, call `serving` once it serves, and return the exit status of its end. Stop it when cancelled."""
        ...


@dataclass(frozen=True, slots=True)
class Pauses:
    """Seconds between a death and the next start: doubled by each death, until one start lasted for `cap_s`."""

    first_s: float = 0.5
    cap_s: float = 30.0

    def after(self, deaths: int) -> float:
        """The pause after so many deaths in a row, from 1."""
        return min(self.cap_s, self.first_s * 2.0 ** min(deaths - 1, 16))


@asynccontextmanager
async def kept(service: Service, say: Say, *, pauses: Pauses | None) -> AsyncIterator[anyio.Event]:
    """Keep `service` running for as long as the block lasts; the event is set once it serves for the first time.

    Without `pauses` its first death is the end. Raises `Misconfigured` or `Failure` into the block.
    """
    serving = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(_keep, service, say, pauses, serving)
        yield serving
        group.cancel_scope.cancel()


async def _keep(service: Service, say: Say, pauses: Pauses | None, serving: anyio.Event) -> None:
    def tell() -> None:
        if serving.is_set():
            say(f"{service.name} serves again")
        serving.set()

    deaths = 0
    while True:
        began = anyio.current_time()
        how = await _run(service, tell, serving)
        if pauses is None:
            raise Failure(f"{service.name} {how}")
        deaths = 1 if anyio.current_time() - began > pauses.cap_s else deaths + 1
        pause = pauses.after(deaths)
        say(f"{service.name} {how}; starting it again in {pause:g} s")
        await anyio.sleep(pause)


async def _run(service: Service, tell: Callable[[], None], serving: anyio.Event) -> str:
    """One life of a service; how it ended, in words."""
    try:
        status = await service.run(tell)
    except ServerMissing as error:
        if not serving.is_set():
            raise
        # It was there before: a port or a disk that is taken now may be free again soon.
        return f"did not start ({error})"
    if status == CONFIG:
        raise Misconfigured(f"{service.name} says that its configuration is wrong")
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with exit status {status}"


@dataclass(frozen=True, slots=True)
class Signals:
    """What the user asks of a supervisor: to stop, and then to hurry."""

    stop: anyio.Event = field(default_factory=anyio.Event)
    hurry: anyio.Event = field(default_factory=anyio.Event)

    async def watch(self) -> None:
        """Set `stop` on the first signal, `hurry` on the next."""
        # What was ignored from the start stays so: `nohup`, and a script's background jobs, ask for it.
        heard = [each for each in SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
        with anyio.open_signal_receiver(*heard) as signals:
            async for _ in signals:
                (self.hurry if self.stop.is_set() else self.stop).set()


async def first_of(*waits: Callable[[], Awaitable[object]]) -> None:
    """Return when one of them returns; the others are cancelled."""
    async with anyio.create_task_group() as group:

        async def wait(for_it: Callable[[], Awaitable[object]]) -> None:
            await for_it()
            group.cancel_scope.cancel()

        for each in waits:
            group.start_soon(wait, each)
