"""Where short jobs wait for a train: as soon as a slot is free, those that are here leave together.

A job that waits alone leaves alone, and at once; the more there are, the fuller the trains.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable

import anyio
from anyio.abc import TaskGroup

from infra.bus.base import Delivery
from infra.pool.base import Reservation
from workers.core.sizing import Sizing
from workers.kinds.registry import Kind
from workers.runtime.rooms import Rooms
from workers.runtime.train import Train
from workers.runtime.worker import Worker

__all__ = ["Platform"]


class Platform:
    """The short jobs of one kind. `serve` must be running for any of them to leave."""

    def __init__(self, rooms: Rooms, kind: Kind, work: TaskGroup) -> None:
        self._rooms = rooms
        self._kind = kind
        self._work = work
        self._waiting: deque[Worker] = deque()
        self._some = anyio.Event()
        self._sizing = Sizing()
        self._profile = rooms.terms[kind.name].profile
        self._lifetime = rooms.settings.profiles[self._profile].recycle_jobs or sys.maxsize

    @property
    def limit(self) -> int:
        """Jobs that one slot takes at once: no more than the actor may run at all."""
        return min(self._sizing.limit, self._lifetime)

    def arrive(self, delivery: Delivery, settled: Callable[[], None]) -> None:
        """A message has come. What is not plain, as it does not decode or comes again, goes its way by itself."""
        worker = Worker(self._rooms, self._kind, delivery, settled)
        received = self._rooms.intake.read(delivery, self._kind) if delivery.number == 1 else None
        if received is None or received.error is not None or received.ticket.run is not None:
            self._work.start_soon(worker.run, name=f"{delivery.consumer} {delivery.sequence}")
            return
        worker.on_lost = lambda: self._drop(worker)
        worker.board(received)
        if not worker.admit():
            worker.unwatch()
            self._work.start_soon(worker.turn_away, name=f"{delivery.consumer} {delivery.sequence}")
            return
        self._waiting.append(worker)

    def depart(self) -> None:
        """All that came together are here: they leave at once if there is a slot."""
        while self._waiting:
            reservation = self._rooms.pool.reserve_now(self._profile, exclusive=self._kind.exclusive)
            if reservation is None:
                self._some.set()
                return
            self._leave(reservation)

    async def serve(self) -> None:
        """Have those who must wait for a slot leave as soon as there is one, until cancelled."""
        while True:
            if not self._waiting:
                self._some = anyio.Event()
                await self._some.wait()
            self._leave(await self._rooms.pool.reserve(self._profile, exclusive=self._kind.exclusive))

    async def close(self) -> None:
        """Nobody leaves any more: give all back that wait."""
        await self._give_back()

    def clear(self) -> None:
        """No slot is to be had for now: whoever waits is given back, in a task of its own."""
        self._work.start_soon(self._give_back)

    async def _give_back(self) -> None:
        while self._waiting:
            worker = self._next()
            if not worker.lost:
                await self._rooms.settle.nak(worker.delivery, 0.0)
            worker.alight()

    def _leave(self, reservation: Reservation) -> None:
        riders = [self._next() for _ in range(min(self.limit, len(self._waiting)))]
        match riders:
            case []:
                reservation.release()
            case [worker]:
                worker.on_ran = self._learn
                self._work.start_soon(worker.go_on_alone, reservation, name=repr(worker))
            case _:
                train = Train(self._rooms, self._work, riders, self._learn)
                self._work.start_soon(train.run, reservation, name=f"{self._kind.name} x {len(riders)}")

    def _next(self) -> Worker:
        worker = self._waiting.popleft()
        worker.unwatch()
        return worker

    def _learn(self, jobs: int, seconds: float) -> None:
        self._sizing = self._sizing.after(jobs, seconds)

    def _drop(self, worker: Worker) -> None:
        self._waiting.remove(worker)
        worker.alight()
