"""Attempts on their way, and the actor that they are on, as a crew and the runtime share them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence

import anyio

from contracts.calls import Call, Frame, Gone, Outcome, Ran
from contracts.errors import ErrorInfo
from infra.pool.actor import Actor, ActorLost, lost
from infra.pool.hosting import is_report
from infra.pool.mailbox import Mailbox
from infra.pool.states import ActorState, moved

__all__ = ["Berth", "Running", "RunningBatch", "RunningCall"]

ASK_AGAIN_S = 0.05
"""A job that was called but has not begun yet cannot be asked to stop: ask again after so many seconds."""


class Berth:
    """One actor in its place, from its start to its end."""

    def __init__(self, name: str, actor: Actor, *, began: float, strike: Callable[[Berth], None]) -> None:
        self.name = name
        self.actor = actor
        self.began = began
        """When it was started."""
        self.state = ActorState.STARTING
        self.running: set[Running] = set()
        self.executions = 0
        """Calls that it has brought to an outcome."""
        self.error: ErrorInfo | None = None
        """Why it must go, or went."""
        self.on_purpose = False
        """We ended it ourselves, to end a job."""
        self.parting = ""
        """Why it is let go once it is idle: `scaled_down`, `recycled`. It takes nothing new."""
        self.retired = False
        """That is what it went for."""
        self.gone = False
        """Nothing of it runs any more."""
        self.condemned = anyio.Event()
        self.restarts = 0
        """How many died before it in its place."""
        self.successor: Berth | None = None
        """Who took its place before it was gone."""
        self._strike = strike

    def become(self, state: ActorState) -> None:
        """Change its state. Raises `ValueError` where that cannot be."""
        self.state = moved(self.state, state)

    def condemn(self, error: ErrorInfo, *, on_purpose: bool = False) -> None:
        """It must go, and takes nothing new from now on. The first reason counts."""
        if self.error is None:
            self.error = error
            self.on_purpose = on_purpose
            self.become(ActorState.DEAD)
            self.condemned.set()
            self._strike(self)


class Running(ABC):
    """A call to an actor, for one job or for many, from its start to its end."""

    def __init__(self, jobs: tuple[str, ...], berth: Berth) -> None:
        self.jobs = jobs
        """`<kind>.<id>` of each job."""
        self.scope = anyio.CancelScope()
        self._berth = berth
        self._ended = anyio.Event()

    def __repr__(self) -> str:
        state = "ended" if self._ended.is_set() else "running"
        return f"{type(self).__name__}({', '.join(self.jobs)} on {self._berth.name}, {state})"

    async def stop(self, grace_s: float) -> None:
        """Ask the job to stop, wait `grace_s`, then kill its actor. Nothing of it runs any more on return."""
        with anyio.move_on_after(grace_s):
            await self._stop_gently()
        if not self._ended.is_set():
            names = self.jobs[0] if len(self.jobs) == 1 else f"{self.jobs[0]} and {len(self.jobs) - 1} others"
            message = f"{names} did not stop within {grace_s:g} s, so its actor {self._berth.name} was killed"
            self._berth.condemn(lost("ActorKilled", message), on_purpose=True)
        await self._ended.wait()

    @abstractmethod
    async def carry_out(self, actor: Actor) -> None:
        """For crews: call the actor, and keep what came of it. Raises `ActorLost`."""

    @abstractmethod
    def lose(self, gone: Gone) -> None:
        """For crews: the actor took it along. Does nothing where it has ended."""

    @abstractmethod
    async def _stop_gently(self) -> None:
        """Return once it has ended."""


class RunningCall(Running):
    """The `Execution` of every pool."""

    def __init__(self, call: Call, berth: Berth) -> None:
        super().__init__((call.job,), berth)
        self.call = call
        self._mailbox: Mailbox[Frame] = Mailbox()
        self._outcome: Outcome | None = None

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

    async def carry_out(self, actor: Actor) -> None:
        self._end(await actor.run(self.call, self._hear))

    def lose(self, gone: Gone) -> None:
        self._end(gone)

    def _hear(self, frame: Frame) -> None:
        self._mailbox.put(frame, report=is_report(frame))

    def _end(self, outcome: Outcome) -> None:
        """The first outcome counts."""
        if self._outcome is None:
            self._outcome = outcome
            self._mailbox.close()
            self._ended.set()

    async def _stop_gently(self) -> None:
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


class RunningBatch(Running):
    """The `Batch` of every pool."""

    def __init__(self, calls: Sequence[Call], berth: Berth) -> None:
        super().__init__(tuple(call.job for call in calls), berth)
        self.calls = calls
        self._ran: Ran | None = None

    async def ran(self) -> Ran:
        """How each ended."""
        await self._ended.wait()
        assert self._ran is not None
        return self._ran

    async def carry_out(self, actor: Actor) -> None:
        self._end(await actor.run_many(self.calls))

    def lose(self, gone: Gone) -> None:
        self._end(Ran([gone] * len(self.calls), 0.0))

    def _end(self, ran: Ran) -> None:
        if self._ran is None:
            self._ran = ran
            self._ended.set()

    async def _stop_gently(self) -> None:
        """Its jobs are short, and which one runs nobody knows."""
        await self._ended.wait()


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
