"""Short jobs that travel together: their `started` in one write, their attempts in one call, their ends in one write.

What is to be done about each is decided as for any job. Only what is to be done for all is done for all at once;
whoever is to do anything else gets off, and goes on by itself from there: who was refused, whose outcome is no result,
who is interrupted. When the call dies nobody knows over which of its jobs, so it is taken apart: each is tried again by
itself, which costs it nothing, and whichever dies once more is the one that pays. So it is where the call takes too
long: in it they get half of their time, and the other half is for another try.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup
from msgspec import Raw

from contracts.calls import Call, Gone, Outcome, Raised, Ran, Returned
from contracts.events import RESULT_LIMIT
from infra.pool.base import Batch, Reservation
from workers.core import job as core
from workers.core.sizing import CALL_S
from workers.runtime.attempt import SLACK_S
from workers.runtime.journal import Write
from workers.runtime.rooms import Rooms
from workers.runtime.worker import Worker

__all__ = ["Train"]

Rider = tuple[Worker, Sequence[core.Command]]
"""A job, and what is to be done about it next."""

ASKED_S: Final = 0.1
"""What a call gets at least in which a job is to be stopped: most end in that time, and nobody need be killed."""
SHARED: Final = 0.5
"""Share of its time that a job gets in a call with others."""


class Train:
    """Jobs of one kind from their slot to their settling. Await `run` once."""

    def __init__(
        self, rooms: Rooms, work: TaskGroup, riders: Sequence[Worker], learn: Callable[[int, float], None]
    ) -> None:
        self._rooms = rooms
        self._work = work
        self._aboard = dict.fromkeys(riders)
        self._learn = learn
        self._waiting: anyio.CancelScope | None = None

    async def run(self, reservation: Reservation) -> None:
        """Until all are settled, or go on by themselves."""
        try:
            riders: list[Rider] = []
            now, server_now = anyio.current_time(), self._rooms.bus.server_now()
            for worker in [*self._aboard]:
                worker.attempt = seat = _Seat(self, worker)
                worker.on_lost = seat.cancel
                if worker.lost_by(now):
                    self._alight(worker)
                else:
                    riders.append((worker, worker.begin(reservation.actor, server_now)))
            riders = await self._call(reservation, await self._append(riders))
            await self._settle(await self._append(riders))
        except anyio.get_cancelled_exc_class():
            for worker in [*self._aboard]:
                await worker.give_back()
                self._alight(worker)
            raise
        finally:
            reservation.release()

    def stop(self, grace_s: float) -> None:
        """The call must end, if not within `grace_s` then by its death. Before it whoever is to be stopped gets off."""
        if self._waiting is not None:
            ends = anyio.current_time() + max(grace_s, ASKED_S)
            self._waiting.deadline = min(self._waiting.deadline, ends)

    # What is done for all at once

    async def _append(self, riders: Sequence[Rider]) -> list[Rider]:
        """Append the event of each; those who are left once these are durable."""
        appending: list[tuple[Worker, core.Append]] = []
        for worker, commands in riders:
            match commands:
                case (core.Append() as command,):
                    appending.append((worker, command))
                case _:
                    self._let_off(worker, *commands)
        if not appending:
            return []
        writes = [worker.prepare(command) for worker, command in appending]
        answers = await self._rooms.journal.append_many(writes)
        now, server_now = anyio.current_time(), self._rooms.bus.server_now()
        left: list[Rider] = []
        for (worker, command), write, written in zip(appending, writes, answers, strict=True):
            if worker.lost_by(now):
                self._alight(worker)
            elif written is None:
                # Refused, or nobody knows.
                self._let_off(worker, command, begun=write)
            else:
                left.append((worker, worker.step(worker.stored(command.event, written), server_now)))
        return left

    async def _call(self, reservation: Reservation, riders: Sequence[Rider]) -> list[Rider]:
        """Run each; those who are left with their results."""
        server_now = self._rooms.bus.server_now()
        running: list[tuple[Worker, Call]] = []
        for worker, commands in riders:
            match commands:
                case (core.Run(started=started),) if not worker.interrupted:
                    self._rooms.live.runs(worker)
                    running.append((worker, worker.call(started, server_now, share=SHARED)))
                case _:
                    self._let_off(worker, *commands)
        if not running:
            return []
        ran = await self._ran(reservation.start_many([call for _, call in running]), [call for _, call in running])
        now, server_now = anyio.current_time(), self._rooms.bus.server_now()
        died = all(isinstance(outcome, Gone) for outcome in ran.outcomes)
        # Of the jobs in it a call that died tells nothing, but that they had better share none for now.
        self._learn(*(1, CALL_S) if died else (len(running), ran.seconds))
        left: list[Rider] = []
        for (worker, call), outcome in zip(running, ran.outcomes, strict=True):
            if worker.lost_by(now):
                self._alight(worker)
            elif isinstance(outcome, Returned) and len(outcome.result) <= RESULT_LIMIT:
                left.append((worker, worker.step(core.Returned(Raw(outcome.result), outcome.artifacts), server_now)))
            elif not isinstance(outcome, Returned) and (died or _ran_out(outcome)):
                self._part(worker, worker.go_on_after, core.TakenApart(outcome.error))
            else:
                self._part(worker, worker.go_on_with, outcome, call)
        return left

    async def _ran(self, batch: Batch, calls: Sequence[Call]) -> Ran:
        ends = anyio.current_time() + min(call.timeout_s for call in calls) + SLACK_S
        try:
            with anyio.CancelScope(deadline=ends) as self._waiting:
                return await batch.ran()
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await batch.stop(0.0)
            raise
        await batch.stop(0.0)
        return await batch.ran()

    async def _settle(self, riders: Sequence[Rider]) -> None:
        """Pay what each owes, and acknowledge it."""
        ended: list[tuple[Worker, core.Pay, core.Ack]] = []
        for worker, commands in riders:
            match commands:
                case (core.Pay() as pay, core.Ack() as ack):
                    ended.append((worker, pay, ack))
                case _:
                    self._let_off(worker, *commands)
        owed = [(worker.received.ticket, pay.end, pay.sequence) for worker, pay, _ in ended]
        stored = await self._rooms.settle.pay_many(owed)
        now = anyio.current_time()
        done: list[Worker] = []
        for (worker, *commands), paid in zip(ended, stored, strict=True):
            if worker.lost_by(now):
                self._alight(worker)
            elif paid:
                done.append(worker)
            else:
                self._let_off(worker, *commands)
        if done:
            await self._rooms.settle.ack_many([worker.delivery for worker in done])
        for worker in done:
            self._alight(worker)

    # Getting off

    def _let_off(self, worker: Worker, *commands: core.Command, begun: Write | None = None) -> None:
        self._part(worker, worker.go_on, commands, begun)

    def _part(self, worker: Worker, go_on: Callable[..., Coroutine[Any, Any, None]], *arguments: Any) -> None:
        del self._aboard[worker]
        worker.unwatch()
        self._work.start_soon(go_on, *arguments, name=repr(worker))

    def _alight(self, worker: Worker) -> None:
        del self._aboard[worker]
        worker.alight()


class _Seat:
    """What stops a job on a train: the whole call must end for it."""

    def __init__(self, train: Train, worker: Worker) -> None:
        self._train = train
        self._worker = worker

    def cancel(self) -> None:
        self._train.stop(self._worker.grace_s)


def _ran_out(outcome: Outcome) -> bool:
    """Whether its time was over. Nobody knows who used it up."""
    return isinstance(outcome, Raised) and outcome.error.reason == "deadline"
