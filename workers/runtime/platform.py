"""Where short jobs wait for a train: as soon as a slot is free, those that are here leave together.

A job that waits alone leaves alone, and at once; the more there are, the fuller the trains.
"""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup

from infra.bus.base import Delivery
from infra.pool.base import Reservation
from workers.core.sizing import Sizing
from workers.kinds.registry import Kind
from workers.runtime import terms
from workers.runtime.rooms import Rooms
from workers.runtime.train import Train
from workers.runtime.worker import Worker

__all__ = ["Platform"]


log = logging.getLogger("jetray.platform")

UNKNOWN: Final = Sizing()
ALONE: Final = "-"
"""The company of those that keep none."""
KNOWN: Final = 64
"""Companies of which it is known how long their jobs take."""


class Platform:
    """The short jobs of one kind. `serve` must be running for any of them to leave."""

    def __init__(self, rooms: Rooms, kind: Kind, work: TaskGroup) -> None:
        self._rooms = rooms
        self._kind = kind
        self._work = work
        self._company = kind.company(terms.configs(rooms.settings).get(kind.name))
        self._waiting: deque[tuple[str, Worker]] = deque()
        """Who waits, and in whose company: only those of the same one share a call."""
        self._some = anyio.Event()
        self._sizings: dict[str, Sizing] = {}
        self._newest = ALONE
        """The company of whoever came last."""
        self._profile = rooms.terms[kind.name].profile
        self._lifetime = rooms.settings.profiles[self._profile].recycle_jobs or sys.maxsize

    @property
    def limit(self) -> int:
        """Jobs that one slot takes at once: no more than the actor may run at all."""
        return self._limit(self._newest)

    def arrive(self, delivery: Delivery, settled: Callable[[], None]) -> None:
        """A message has come. What is not plain goes its way by itself, as what does not decode or comes again."""
        worker = Worker(self._rooms, self._kind, delivery, settled)
        received = self._rooms.intake.read(delivery, self._kind) if delivery.number == 1 else None
        if received is None or received.error is not None or received.ticket.run is not None:
            self._go_alone(worker)
            return
        company = self._company_of(received.input)
        if company is None:
            self._newest = ALONE
            self._go_alone(worker)
            return
        # Of another batch's jobs nothing is known, even if they are of the same sort.
        self._newest = company = f"{company} {received.ticket.parent}" if company else company
        worker.on_lost = lambda: self._drop(company, worker)
        worker.board(received)
        if not worker.admit():
            worker.unwatch()
            self._work.start_soon(worker.turn_away, name=f"{delivery.consumer} {delivery.sequence}")
            return
        self._waiting.append((company, worker))

    def _go_alone(self, worker: Worker) -> None:
        self._work.start_soon(worker.run, name=f"{worker.delivery.consumer} {worker.delivery.sequence}")

    def _company_of(self, value: Any) -> str | None:
        try:
            return self._company(value)
        except Exception:
            log.exception("kind %s cannot tell the company of a job, so that goes alone", self._kind.name)
            return None

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
        if not self._waiting:
            reservation.release()
            return
        company = self._waiting[0][0]
        learn = partial(self._learn, company)
        riders: list[Worker] = []
        while len(riders) < self._limit(company) and self._waiting and self._waiting[0][0] == company:
            riders.append(self._next())
        if len(riders) == 1:
            riders[0].on_ran = learn
            self._work.start_soon(riders[0].go_on_alone, reservation, name=repr(riders[0]))
        else:
            train = Train(self._rooms, self._work, riders, learn)
            self._work.start_soon(train.run, reservation, name=f"{self._kind.name} x {len(riders)}")

    def _next(self) -> Worker:
        _, worker = self._waiting.popleft()
        worker.unwatch()
        return worker

    def _limit(self, company: str) -> int:
        return min(self._sizings.get(company, UNKNOWN).limit, self._lifetime)

    def _learn(self, company: str, jobs: int, seconds: float) -> None:
        # Those that were heard of last stand last.
        self._sizings[company] = self._sizings.pop(company, UNKNOWN).after(jobs, seconds)
        if len(self._sizings) > KNOWN:
            del self._sizings[next(iter(self._sizings))]

    def _drop(self, company: str, worker: Worker) -> None:
        self._waiting.remove((company, worker))
        worker.alight()
