"""A gateway that is killed at one step: `python -m tests.integration.failpoint STEP SIDE COUNT SUBJECT`.

It is `jetray worker`, whose bus, pool and store are wrapped where `workers.launcher.worker` composes them. It comes by
the step `COUNT` times, on a subject that contains `SUBJECT`, and then ends by SIGKILL, before or after.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any

from contracts.calls import Call, Frame, Outcome, Ran
from contracts.events import Artifact
from infra.bus.base import BusError, Delivery, Outgoing, PubAck, Puller, Stored
from infra.bus.nats import NatsBus, connect
from infra.pool.base import Batch, Execution, Pool, Reservation
from infra.store.base import Store
from infra.store.objects import ObjectStore
from tests.simulation.faults import Side, step_of
from workers.launcher import main
from workers.launcher import worker as composed


class Failpoint:
    """Counts how often a step is come by, and strikes."""

    def __init__(self, step: str, side: Side, count: int, subject: str) -> None:
        self._step = step
        self._side = side
        self._count = count
        self._subject = subject

    def meets(self, step: str | None, side: Side, subject: str) -> bool:
        """Whether this is where it strikes. To be asked once each time."""
        if (step, side) != (self._step, self._side) or self._subject not in subject:
            return False
        self._count -= 1
        return self._count == 0

    def come_by(self, step: str | None, side: Side, subject: str) -> None:
        """Does not return where it strikes."""
        if self.meets(step, side, subject):
            die()

    def come_by_all(self, step: str | None, side: Side, subjects: Sequence[str]) -> None:
        """As `come_by` for each; where there are several also as `shared <step>`."""
        for subject in subjects:
            self.come_by(step, side, subject)
            if len(subjects) > 1:
                self.come_by(f"shared {step}", side, subject)

    @contextmanager
    def around(self, step: str | None, subject: str) -> Iterator[None]:
        """Before the block, and after it: also where it was refused, but not where it was cancelled."""
        self.come_by(step, "before", subject)
        try:
            yield
        except BusError:
            self.come_by(step, "after", subject)
            raise
        self.come_by(step, "after", subject)


def die() -> None:
    """As `kill -9` does it: nothing is flushed, nothing is closed, nobody is told."""
    os.kill(os.getpid(), signal.SIGKILL)


class FailingBus:
    """The real bus, with a step before and after each of its calls."""

    def __init__(self, bus: NatsBus, point: Failpoint) -> None:
        self._bus = bus
        self._point = point

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)

    async def publish(self, subject: str, body: bytes, headers: Mapping[str, str] | None = None) -> PubAck:
        with self._point.around(_published(subject), subject):
            return await self._bus.publish(subject, body, headers)

    async def publish_many(self, messages: Sequence[Outgoing]) -> list[PubAck | BusError]:
        # A train's events are all of one name.
        step, subjects = _published(messages[0].subject), [message.subject for message in messages]
        self._point.come_by_all(step, "before", subjects)
        answers = await self._bus.publish_many(messages)
        self._point.come_by_all(step, "after", subjects)
        return answers

    async def last(self, stream: str, subject: str) -> Stored | None:
        with self._point.around(step_of("last", subject), subject):
            return await self._bus.last(stream, subject)

    async def get(self, stream: str, sequence: int) -> Stored | None:
        step = {"EVENTS": "child's end", "DLQ": "letter"}.get(stream, "probe")
        with self._point.around(step, stream):
            return await self._bus.get(stream, sequence)

    async def value(self, bucket: str, key: str) -> bytes | None:
        with self._point.around("kind", key):
            return await self._bus.value(bucket, key)

    async def follow(self, stream: str, subject: str, *, after: int = 0) -> AsyncGenerator[Stored, None]:
        step = {"JOINS": "fold", "EVENTS": "watch"}[stream]
        async with aclosing(self._bus.follow(stream, subject, after=after)) as messages:
            async for message in messages:
                self._point.come_by(step, "before", message.subject)
                try:
                    yield message
                finally:
                    # Of the last one nobody comes back for another: the reader is done.
                    self._point.come_by(step, "after", message.subject)

    @asynccontextmanager
    async def pull(self, stream: str, consumer: str) -> AsyncIterator[Puller]:
        async with self._bus.pull(stream, consumer) as puller:
            yield _FailingPuller(puller, self._point)

    async def ack(self, delivery: Delivery) -> None:
        await self._settle("ack", delivery, lambda: self._bus.ack(delivery))

    async def ack_many(self, deliveries: Sequence[Delivery]) -> None:
        self._point.come_by_all("ack", "before", [delivery.subject for delivery in deliveries])
        await self._bus.ack_many(deliveries)
        # Nobody answers it. What was not flushed would never have been sent.
        await self._bus.flush()
        self._point.come_by_all("ack", "after", [delivery.subject for delivery in deliveries])

    async def nak(self, delivery: Delivery, delay_s: float = 0.0) -> None:
        await self._settle("nak", delivery, lambda: self._bus.nak(delivery, delay_s))

    async def in_progress(self, delivery: Delivery) -> None:
        with self._point.around("renew", delivery.subject):
            await self._bus.in_progress(delivery)

    async def _settle(self, op: str, delivery: Delivery, send: Callable[[], Any]) -> None:
        step = step_of(op, delivery.subject)
        self._point.come_by(step, "before", delivery.subject)
        await send()
        if self._point.meets(step, "after", delivery.subject):
            # Nobody answers it. What was not flushed would never have been sent.
            await self._bus.flush()
            die()


class _FailingPuller:
    def __init__(self, puller: Puller, point: Failpoint) -> None:
        self._puller = puller
        self._point = point

    def __getattr__(self, name: str) -> Any:
        return getattr(self._puller, name)

    async def receive(self) -> Delivery:
        delivery = await self._puller.receive()
        self._received(delivery)
        return delivery

    async def receive_many(self) -> list[Delivery]:
        deliveries = await self._puller.receive_many()
        for delivery in deliveries:
            self._received(delivery)
        return deliveries

    def _received(self, delivery: Delivery) -> None:
        step = "command" if delivery.stream == "CONTROL" else "pull"
        self._point.come_by(step, "after", delivery.subject)


class _FailingPool:
    def __init__(self, pool: Pool, point: Failpoint) -> None:
        self._pool = pool
        self._point = point

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def reserve_now(self, profile: str, *, exclusive: bool) -> Reservation | None:
        with self._point.around("reserve", profile):
            reservation = self._pool.reserve_now(profile, exclusive=exclusive)
        return None if reservation is None else _FailingReservation(reservation, self._point)

    async def reserve(self, profile: str, *, exclusive: bool) -> Reservation:
        with self._point.around("reserve", profile):
            reservation = await self._pool.reserve(profile, exclusive=exclusive)
        return _FailingReservation(reservation, self._point)


class _FailingReservation:
    def __init__(self, reservation: Reservation, point: Failpoint) -> None:
        self._reservation = reservation
        self._point = point

    @property
    def actor(self) -> str:
        return self._reservation.actor

    def start(self, call: Call) -> Execution:
        with self._point.around("run", call.job):
            execution = self._reservation.start(call)
        return _FailingExecution(execution, self._point, call.job)

    def start_many(self, calls: Sequence[Call]) -> Batch:
        self._point.come_by_all("run", "before", [call.job for call in calls])
        batch = self._reservation.start_many(calls)
        self._point.come_by_all("run", "after", [call.job for call in calls])
        return _FailingBatch(batch, self._point, [call.job for call in calls])

    def release(self) -> None:
        self._reservation.release()


class _FailingExecution:
    def __init__(self, execution: Execution, point: Failpoint, job: str) -> None:
        self._execution = execution
        self._point = point
        self._job = job

    async def frames(self) -> AsyncIterator[Frame]:
        async for frame in self._execution.frames():
            self._point.come_by("frame", "before", self._job)
            yield frame
            self._point.come_by("frame", "after", self._job)

    async def outcome(self) -> Outcome:
        outcome = await self._execution.outcome()
        self._point.come_by("outcome", "after", self._job)
        return outcome

    async def stop(self, grace_s: float) -> None:
        with self._point.around("stop", self._job):
            await self._execution.stop(grace_s)


class _FailingBatch:
    def __init__(self, batch: Batch, point: Failpoint, jobs: list[str]) -> None:
        self._batch = batch
        self._point = point
        self._jobs = jobs

    async def ran(self) -> Ran:
        ran = await self._batch.ran()
        self._point.come_by_all("outcome", "after", self._jobs)
        return ran

    async def stop(self, grace_s: float) -> None:
        with self._point.around("stop", self._jobs[0]):
            await self._batch.stop(grace_s)


class _FailingStore:
    def __init__(self, store: Store, point: Failpoint) -> None:
        self._store = store
        self._point = point

    async def put(self, name: str, data: bytes) -> Artifact:
        with self._point.around("store", name):
            return await self._store.put(name, data)

    async def get(self, uri: str) -> bytes:
        with self._point.around("fetch", uri):
            return await self._store.get(uri)


def _published(subject: str) -> str | None:
    return "emit" if subject.startswith("agent.") else step_of("publish", subject)


def arm(point: Failpoint) -> None:
    """Wrap what the launcher composes."""
    pool = composed._pool

    @asynccontextmanager
    async def failing(*arguments: Any, **keywords: Any) -> AsyncIterator[FailingBus]:
        async with connect(*arguments, **keywords) as bus:
            yield FailingBus(bus, point)

    composed.__dict__.update(
        connect=failing,
        _pool=lambda *arguments: _FailingPool(pool(*arguments), point),
        ObjectStore=lambda *arguments: _FailingStore(ObjectStore(*arguments), point),
    )


if __name__ == "__main__":
    step, side, count, subject = sys.argv[1:]
    arm(Failpoint(step, "before" if side == "before" else "after", int(count), subject))
    sys.exit(main(["worker"]))
