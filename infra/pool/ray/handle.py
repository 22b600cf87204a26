"""One Ray actor, as a crew keeps it. Imports Ray: import this only once a cluster has been started."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
import msgspec
import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from contracts.calls import (
    Call,
    Frame,
    Outcome,
    Ran,
    decode_ran,
    decode_reply,
    encode,
    encode_many,
)
from contracts.errors import ErrorInfo
from infra.pool import birthmark, provenance
from infra.pool.actor import ActorLost, lost, unfit
from infra.pool.base import HostSpec, Profile
from infra.pool.birthmark import Birthmark
from infra.pool.ray.actor import JobActor, Whereabouts, unpacked_items
from infra.pool.ray.errors import meaning
from infra.pool.ray.line import Argument, Line, LineLost, Number

__all__ = ["RayActor", "options"]

_log = logging.getLogger("jetray.pool")

CONTROL_CALLS = 1000
"""Room for `cancel`, `pulse` and `alive` beside the jobs."""
LEARN_S = 1.0
"""How long Ray may take to say what an actor died of, once its line was lost."""
STILL_WAITING_S = 30.0
GONE_S = 10.0
"""How long a killed actor's processes may take to end before we say so and go on."""


def options(profile: Profile, name: str) -> dict[str, Any]:
    """How the profile's actors are to be made. We retry and restart; Ray does not."""
    return {
        "name": name,
        "num_cpus": profile.cpus,
        "num_gpus": profile.gpus,
        "memory": profile.memory or None,
        "runtime_env": profile.runtime_env or None,
        "max_restarts": 0,
        "max_task_retries": 0,
        "max_concurrency": profile.concurrency + CONTROL_CALLS,
        "enable_task_events": False,
    }


class RayActor:
    """A `JobActor` and what we know of it."""

    def __init__(self, name: str, profile: Profile, host: HostSpec) -> None:
        self._name = name
        self._profile = profile
        self._host = host
        self._mark = birthmark.fresh()
        self._handle: Any = None
        self._where: Whereabouts | None = None
        self._way: Line | RayCalls

    async def ready(self) -> None:
        """Create it and wait until its host is built."""
        try:
            # Creating a named actor asks Ray's head, and blocks meanwhile.
            await anyio.to_thread.run_sync(self._create)
        except (TypeError, ValueError) as error:  # so Ray refuses options, a malformed runtime_env among them
            raise ActorLost(unfit(type(error).__name__, str(error))) from error
        self._where = msgspec.msgpack.decode(await self._created(), type=Whereabouts)
        if self._where.error is not None:
            raise ActorLost(self._where.error)
        self._way = await self._connected(self._where.line)

    async def run(self, call: Call, send: Callable[[Frame], None]) -> Outcome:
        """A plain call, or one that is answered by a stream."""
        data = encode(call)
        if call.streams:
            return await self._stream(data, send)
        outcome = decode_reply(await self._ask("run", data))
        if isinstance(outcome, Frame):
            raise ActorLost(lost("ProtocolError", f"{self._name} answered {call.job} with a frame"))
        return outcome

    async def run_many(self, calls: Sequence[Call]) -> Ran:
        """One plain call for all."""
        ran = decode_ran(await self._ask("run_many", encode_many(calls)))
        if len(ran.outcomes) != len(calls):
            raise ActorLost(lost("ProtocolError", f"{self._name} answered {len(calls)} calls with {len(ran.outcomes)}"))
        return ran

    async def cancel(self, job: str) -> bool:
        """Ask the host."""
        heard: bool = await self._ask("cancel", job.encode())
        return heard

    async def pulse(self) -> int:
        """One plain call."""
        resident: int = await self._ask("pulse")
        return resident

    async def died(self) -> ErrorInfo:
        """Wait for the call that never returns."""
        try:
            await _answer(self._handle.alive.remote())
        except ActorLost as gone:
            return gone.error
        return lost("ProtocolError", f"{self._name} ended a call that never ends")

    async def kill(self) -> None:
        """`ray.kill`, and then see its process end, and all that it started."""
        if self._handle is None:
            return
        self._way.hang_up()
        ray.kill(self._handle)
        if self._where is not None and not await self._gone(self._where):
            _log.error(
                "the process of %s, %d, is killed, and it or what it started is still there after %g s",
                self._name,
                self._where.pid,
                GONE_S,
            )

    def _create(self) -> None:
        actor_class = ray.remote(JobActor).options(**options(self._profile, self._name))
        self._handle = actor_class.remote(
            self._host.factory, self._host.config, provenance.version(), self._mark.number
        )
        self._way = RayCalls(self._handle)

    async def _created(self) -> bytes:
        ready = asyncio.ensure_future(_answer(self._handle.ready.remote()))
        try:
            while not (await asyncio.wait({ready}, timeout=STILL_WAITING_S))[0]:
                wants = {
                    key: value for key, value in options(self._profile, self._name).items() if value and "num" in key
                }
                _log.warning("%s is still waiting for room in the Ray cluster: it wants %s", self._name, wants)
            created: bytes = await ready
            return created
        finally:
            ready.cancel()

    async def _connected(self, line: Number | str) -> Line | RayCalls:
        """The way to it. Where packets between its node and this one go Ray's ways alone, that is Ray."""
        if isinstance(line, Number):
            try:
                return await Line.connect(line)
            except OSError as error:
                line = f"it does not pick up at {line.host}:{line.port}: {error!r}"
        _log.warning("calls to %s go through Ray, which is slower: %s", self._name, line)
        return RayCalls(self._handle)

    async def _ask(self, method: str, argument: Argument = None) -> Any:
        async with self._heard():
            return await self._way.ask(method, argument)

    async def _stream(self, data: bytes, send: Callable[[Frame], None]) -> Outcome:
        outcome: Outcome | None = None
        async with self._heard(), aclosing(self._way.stream(data)) as answers:
            async for items in answers:
                for reply in map(decode_reply, unpacked_items(items)):
                    if isinstance(reply, Frame):
                        send(reply)
                    else:
                        outcome = reply
        if outcome is None:
            raise ActorLost(lost("ProtocolError", f"{self._name} ended a call without an outcome"))
        return outcome

    @asynccontextmanager
    async def _heard(self) -> AsyncIterator[None]:
        """Raises `ActorLost` where the line is lost. Ray mostly knows of what, and soon."""
        try:
            yield
        except LineLost as error:
            found = lost("LineLost", f"the connection to {self._name} was lost")
            with anyio.move_on_after(LEARN_S):
                found = await self.died()
            raise ActorLost(found) from error

    async def _gone(self, where: Whereabouts) -> bool:
        if where.node == ray.get_runtime_context().get_node_id():
            return await anyio.to_thread.run_sync(_end, self._mark.number, where.pid, GONE_S)
        there = NodeAffinitySchedulingStrategy(node_id=where.node, soft=False)
        watch = ray.remote(_end).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
        try:
            gone: bool = await _answer(watch.remote(self._mark.number, where.pid, GONE_S))
        except ActorLost:
            # The node itself is gone.
            return True
        return gone


class RayCalls:
    """Calls through Ray, for where there is no line. See `Line`; raises `ActorLost` by itself."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    async def ask(self, method: str, argument: Argument = None) -> Any:
        """What a method returns."""
        remote = getattr(self._handle, method).remote
        return await _answer(remote() if argument is None else remote(argument))

    async def stream(self, argument: bytes) -> AsyncGenerator[bytes, None]:
        """What `stream` yields."""
        try:
            async for reference in self._handle.stream.remote(argument):
                yield await reference
        except RayError as error:
            raise ActorLost(meaning(error)) from error

    def hang_up(self) -> None:
        """There is nothing to end."""


async def _answer(reference: Any) -> Any:
    """What an actor's method returned. Cancelling this does not cancel that."""
    try:
        return await reference
    except RayError as error:
        raise ActorLost(meaning(error)) from error


def _end(mark: int, pid: int, timeout_s: float) -> bool:
    """On the actor's host: end all that bears its mark, itself included. Whether that was done in time."""
    ends = time.monotonic() + timeout_s
    if birthmark.supported():
        birthmark.end(Birthmark(mark), within_s=timeout_s)
    while time.monotonic() < ends:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.005)
    return False
