"""An attempt on its way, and the actor that it is on, as a crew and the runtime share them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import anyio

from contracts.calls import Call, Frame, Outcome
from contracts.errors import ErrorInfo
from infra.pool.actor import Actor, ActorLost, lost
from infra.pool.hosting import is_report
from infra.pool.mailbox import Mailbox

__all__ = ["Berth", "RunningCall"]

ASK_AGAIN_S = 0.05
"""A job that was called but has not begun yet cannot be asked to stop: ask again after so many seconds."""


class Berth:
    """One actor in its place, from its start to its end."""

    def __init__(self, name: str, actor: Actor, *, strike: Callable[[Berth], None]) -> None:
        self.name = name
        self.actor = actor
        self.running: set[RunningCall] = set()
        self.executions = 0
        """Calls that it has brought to an outcome."""
        self.error: ErrorInfo | None = None
        """Why it must go, or went."""
        self.on_purpose = False
        """We ended it ourselves, to end a job."""
        self.gone = False
        """Nothing of it runs any more."""
        self.condemned = anyio.Event()
        self._strike = strike

    def condemn(self, error: ErrorInfo, *, on_purpose: bool = False) -> None:
        """It must go, and takes nothing new from now on. The first reason counts."""
        if self.error is None:
            self.error = error
            self.on_purpose = on_purpose
            self.condemned.set()
            self._strike(self)


class RunningCall:
    """The `Execution` of every pool."""

    def __init__(self, call: Call, berth: Berth) -> None:
        self.call = call
        self.scope = anyio.CancelScope()
        self._berth = berth
        self._mailbox: Mailbox[Frame] = Mailbox()
        self._outcome: Outcome | None = None
        self._ended = anyio.Event()

    def __repr__(self) -> str:
        return f"RunningCall({self.call.job} on {self._berth.name}, {'ended' if self._outcome else 'running'})"

    def frames(self) -> AsyncIterator[Frame]:
        """What the job says while it runs; ends with it. Of reports not yet read, the last one counts.

        No generator: whoever stops reading half-way leaves nothing to be closed.
        """
        return _Reader(self._mailbox)

    async def outcome(self) -> Outcome:
        """How it ended."""
        await self._ended.wait()
        assert self._outcome is not None
        return self._outcome

    async def stop(self, grace_s: float) -> None:
        """Ask the job to stop, wait `grace_s`, then kill its actor. Nothing of it runs any more on return."""
        with anyio.move_on_after(grace_s):
            await self._ask_to_stop()
        if self._outcome is None:
            message = f"{self.call.job} did not stop within {grace_s:g} s, so its actor {self._berth.name} was killed"
            self._berth.condemn(lost("ActorKilled", message), on_purpose=True)
        await self._ended.wait()

    def hear(self, frame: Frame) -> None:
        """For crews: a frame arrived."""
        self._mailbox.put(frame, report=is_report(frame))

    def end(self, outcome: Outcome) -> None:
        """For crews: it has ended. The first outcome counts."""
        if self._outcome is None:
            self._outcome = outcome
            self._mailbox.close()
            self._ended.set()

    async def _ask_to_stop(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._ask_until_heard)
            await self._ended.wait()
            tasks.cancel_scope.cancel()

    async def _ask_until_heard(self) -> None:
        try:
            while not await self._berth.actor.cancel(self.call.job):  # noqa: ASYNC110 - no host says when a job begins
                await anyio.sleep(ASK_AGAIN_S)
        except ActorLost as gone:
            self._berth.condemn(gone.error)


class _Reader:
    """Reads a mailbox frame by frame."""

    def __init__(self, mailbox: Mailbox[Frame]) -> None:
        self._mailbox = mailbox

    def __aiter__(self) -> _Reader:
        return self

    async def __anext__(self) -> Frame:
        frame = await self._mailbox.next()
        if frame is None:
            raise StopAsyncIteration
        return frame
