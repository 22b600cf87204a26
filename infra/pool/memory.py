"""The in-memory pool: hosts in this very task, under any clock that anyio knows.

It is for tests and simulations. It kills what can be cancelled; for a job that blocks a thread, it waits.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

import anyio

from contracts.calls import Call, Frame, Outcome, Ran, decode_call, encode
from contracts.errors import ErrorInfo
from infra.pool.actor import ActorLost, lost, no_frames
from infra.pool.base import Host, HostSpec, Profile
from infra.pool.crewed import CrewedPool
from infra.pool.hosting import build_host, execute, one_by_one, sealed, unsealed

__all__ = ["MemoryPool"]


class MemoryPool(CrewedPool):
    """Runs hosts here. `host` says how to build one, or does so itself."""

    def __init__(
        self,
        profiles: Iterable[Profile],
        host: HostSpec | Callable[[], Host],
        *,
        gateway: str = "memory",
        beat_s: float | None = None,
    ) -> None:
        self._actors = _MemorySpawner(host, beat_s)
        super().__init__(profiles, self._actors, gateway=gateway)

    def kill(self, actor: str) -> None:
        """Let a living actor die, as if its process had been killed."""
        self._actors.living[actor].die(lost("ActorDiedError", f"{actor} was killed from outside"))

    def silence(self, actor: str) -> None:
        """Have a living actor answer no heartbeat any more. There are heartbeats where `beat_s` was given."""
        self._actors.living[actor].answers = False

    def swell(self, actor: str, resident: int) -> None:
        """Have a living actor take so many bytes of memory, as it tells with each heartbeat."""
        self._actors.living[actor].resident = resident


class _MemorySpawner:
    def __init__(self, host: HostSpec | Callable[[], Host], beat_s: float | None) -> None:
        self._host = host
        self.beat_s = beat_s
        self.living: dict[str, _MemoryActor] = {}

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        yield

    def spawn(self, profile: Profile, name: str) -> _MemoryActor:
        return _MemoryActor(name, self._host, self.living)

    def concurrency(self, profile: Profile) -> int:
        return profile.concurrency


class _MemoryActor:
    def __init__(self, name: str, host: HostSpec | Callable[[], Host], living: dict[str, _MemoryActor]) -> None:
        self._name = name
        self._spec = host
        self._living = living
        self._host: Host
        self.answers = True
        self.resident = 0
        self._running: set[anyio.CancelScope] = set()
        self._cause: ErrorInfo | None = None
        self._dead = anyio.Event()
        self._idle = anyio.Event()

    async def ready(self) -> None:
        host = build_host(self._spec) if isinstance(self._spec, HostSpec) else self._spec()
        if isinstance(host, ErrorInfo):
            raise ActorLost(host)
        self._host = host
        self._living[self._name] = self

    async def run(self, call: Call, send: Callable[[Frame], None]) -> Outcome:
        if self._cause is not None:
            raise ActorLost(self._cause)
        scope = anyio.CancelScope()
        self._running.add(scope)
        try:
            with scope:
                # There and back again as bytes, so that nothing passes here that would not pass between processes.
                return await execute(self._host, decode_call(encode(call)), lambda frame: send(unsealed(sealed(frame))))
        finally:
            self._running.discard(scope)
            if not self._running:
                self._idle.set()
        assert self._cause is not None
        raise ActorLost(self._cause)

    async def run_many(self, calls: Sequence[Call]) -> Ran:
        return await one_by_one(calls, lambda call: self.run(call, no_frames))

    async def cancel(self, job: str) -> bool:
        return self._host.cancel(job)

    async def pulse(self) -> int:
        if not self.answers:
            await anyio.sleep_forever()
        return self.resident

    async def died(self) -> ErrorInfo:
        await self._dead.wait()
        assert self._cause is not None
        return self._cause

    async def kill(self) -> None:
        self.die(lost("ActorKilled", f"{self._name} was killed"))
        while self._running:
            self._idle = anyio.Event()
            await self._idle.wait()

    def die(self, cause: ErrorInfo) -> None:
        if self._cause is None:
            self._cause = cause
            self._dead.set()
            self._living.pop(self._name, None)
            for scope in self._running:
                scope.cancel()
