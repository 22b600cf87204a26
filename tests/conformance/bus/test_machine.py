"""One model, and the buses that must do as it does: in memory, and a nats-server.

Hypothesis draws what is done and calls it from its own thread; the bus lives in an event loop in another, which goes
on while nothing is drawn. After every step all that the model hands out must arrive, in its order, and the figures of
the consumer must be the model's.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from contracts.events import LogEvent
from contracts.headers import MSG_ID
from infra.bus.base import Delivery, Disconnected, NoSuchSubject, PubAck, Puller, Stored, StreamFull
from infra.bus.memory import MemoryBus
from infra.bus.nats import NatsBus
from infra.bus.topology import ConsumerSpec, StreamSpec
from tests.conformance.bus.conftest import memory_world, real_world
from tests.conformance.bus.model import Full, Log, Queue
from tests.conformance.bus.world import World, eventually, take
from tests.core.helpers import completed, progress, started
from workers.core.log import EMPTY, LogView
from workers.runtime.journal import Journal, Written

T = TypeVar("T")

LEASE_S: Final = 600.0
"""Longer than any example takes."""
PATIENCE_S: Final = 0.5
"""What `take` and `eventually` make of it is 15 s."""
LANES: Final = ("a", "b")
LIMIT: Final = 3
PLACES: Final = 2
DELAY_S: Final = 0.05
KIND: Final = "k"
"""Of the jobs that `tests.core.helpers` tells of."""

EVENTS: Final = StreamSpec(name="EVENTS", subjects=("orchestration.*.*.*",), discard="new", deny_delete=True)
WRITES: Final[list[Callable[..., LogEvent]]] = [started, progress, completed]


class Stage:
    """A bus in the loop of a portal, and what examples need of it beyond its Protocol."""

    def __init__(self, portal: BlockingPortal, world: World) -> None:
        self.portal = portal
        self.world = world
        self.examples = itertools.count(1)
        self.newest = 0
        """Sequence of the newest event; the log stream is all examples'."""

    def call(self, act: Callable[..., Awaitable[T]], *args: Any) -> T:
        return self.portal.call(act, *args)

    async def delete(self, stream: str, sequence: int) -> None:
        """As an operator does."""
        match self.world.bus:
            case MemoryBus() as bus:
                bus.server.stream(stream).remove(sequence)
            case NatsBus() as bus:
                await bus.api(f"STREAM.MSG.DELETE.{stream}", {"seq": sequence})

    async def outage(self) -> None:
        """The server is away, and comes back."""
        async with self.world.outage():
            with pytest.raises(Disconnected):
                await self.world.bus.publish("orchestration.k.started.J", b"")


class Bus(RuleBasedStateMachine):
    """A work queue and its puller, and job logs written by two processes."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage, self.bus, self.call = stage, stage.world.bus, stage.call
        self.name = f"Q{next(stage.examples)}"
        self.queue = Queue(limit=LIMIT, places=PLACES)
        self.logs = {job_id: Log() for job_id in ("J1", "J2")}
        self.journals = {
            # No two processes ever share one: it is what makes ids of events unique.
            writer: Journal(self.bus, nonce=f"{self.name}-{writer}", source="gw")
            for writer in ("one", "two")
        }
        self.deliveries: list[Delivery] = []
        self.outages = 0
        self.call(self.set_up)
        self.pulling: AbstractContextManager[Puller] = stage.portal.wrap_async_context_manager(
            self.bus.pull(self.name, "c")
        )
        self.puller = self.pulling.__enter__()

    async def set_up(self) -> None:
        stream = StreamSpec(
            name=self.name,
            subjects=tuple(map(self.subject, LANES)),
            retention="workqueue",
            discard="new",
            discard_per_subject=True,
            max_msgs_per_subject=LIMIT,
        )
        consumer = ConsumerSpec(
            stream=self.name, name="c", subject=self.subject("*"), ack_wait_s=LEASE_S, max_ack_pending=PLACES
        )
        await self.stage.world.apply(EVENTS, stream, consumer)

    def teardown(self) -> None:
        self.pulling.__exit__(None, None, None)

    def subject(self, lane: str) -> str:
        return f"{self.name}.{lane}" if lane else f"{self.name}.*"

    def job(self, job_id: str) -> str:
        return f"{self.name}-{job_id}"

    # The queue

    @rule(lane=st.sampled_from(LANES), message_id=st.sampled_from(["", "", "x", "y"]), body=st.binary(max_size=3))
    def publish(self, lane: str, message_id: str, body: bytes) -> None:
        headers = {MSG_ID: message_id} if message_id else None
        try:
            sequence, duplicate = self.queue.publish(lane, body, message_id)
        except Full:
            with pytest.raises(StreamFull):
                self.call(self.bus.publish, self.subject(lane), body, headers)
            return
        found = self.call(self.bus.publish, self.subject(lane), body, headers)
        assert found == PubAck(self.name, sequence, duplicate)
        self.arrive()

    @rule()
    def publish_for_nobody(self) -> None:
        with pytest.raises(NoSuchSubject):
            self.call(self.bus.publish, f"{self.name}.c", b"")

    @rule(count=st.integers(1, 3))
    def grant(self, count: int) -> None:
        self.queue.credit += count
        self.stage.portal.call(self.puller.grant, count)
        self.arrive()

    @precondition(lambda self: self.deliveries)
    @rule(pick=st.integers(0, 20))
    def ack(self, pick: int) -> None:
        delivery = self.one(pick)
        self.queue.remove(delivery.sequence)
        self.call(self.bus.ack, delivery)
        self.gone(delivery.sequence)
        self.arrive()

    @precondition(lambda self: self.deliveries)
    @rule(pick=st.integers(0, 20), delayed=st.booleans())
    def nak(self, pick: int, delayed: bool) -> None:
        delivery = self.one(pick)
        self.queue.nak(delivery.sequence, delayed=delayed)
        self.call(self.give_back, delivery, 10 * LEASE_S if delayed else 0.0)
        self.arrive()

    @precondition(lambda self: self.queue.credit and any(d.sequence in self.queue.leases for d in self.deliveries))
    @rule(pick=st.integers(0, 20))
    def nak_and_wait(self, pick: int) -> None:
        held = [delivery for delivery in self.deliveries if delivery.sequence in self.queue.leases]
        delivery = held[pick % len(held)]
        self.queue.nak(delivery.sequence, delayed=False)
        began = time.monotonic()
        self.call(self.bus.nak, delivery, DELAY_S)
        self.arrive()
        assert self.deliveries[-1].sequence == delivery.sequence
        assert time.monotonic() - began >= DELAY_S, "it came before its delay was over"

    async def give_back(self, delivery: Delivery, delay_s: float) -> None:
        await self.bus.nak(delivery, delay_s)
        # Answered once the nak was read. A renewal takes back no nak, and shortens a delay to a lease.
        await self.bus.in_progress(delivery)

    @precondition(lambda self: self.deliveries)
    @rule(pick=st.integers(0, 20))
    def renew(self, pick: int) -> None:
        self.call(self.bus.in_progress, self.one(pick))
        self.arrive()

    @precondition(lambda self: self.queue.kept)
    @rule(pick=st.integers(0, 20))
    def delete(self, pick: int) -> None:
        kept = list(self.queue.kept)
        sequence = kept[pick % len(kept)]
        self.queue.remove(sequence)
        self.call(self.stage.delete, self.name, sequence)
        self.gone(sequence)
        self.arrive()

    @rule(sequence=st.integers(1, 12))
    def get(self, sequence: int) -> None:
        self.is_kept(self.call(self.bus.get, self.name, sequence), sequence)

    @rule(lane=st.sampled_from(("", *LANES)))
    def last(self, lane: str) -> None:
        self.is_kept(self.call(self.bus.last, self.name, self.subject(lane)), self.queue.last_on(lane))

    # Job logs

    @rule(
        job_id=st.sampled_from(["J1", "J2"]),
        writer=st.sampled_from(["one", "two"]),
        make=st.sampled_from(WRITES),
        behind=st.sampled_from([0, 0, 0, 1, 2]),
    )
    def append(self, job_id: str, writer: str, make: Callable[..., LogEvent], behind: int) -> None:
        """After the last event, or after an earlier one, as a writer does that does not know of the last."""
        log = self.logs[job_id]
        known = [0, *(sequence for sequence, _, _ in log.events)]
        after = known[max(0, len(known) - 1 - behind)]
        event: Any = make(job_id=self.job(job_id), n=known.index(after) + 1)
        answer = self.call(lambda: self.journals[writer].append(event, after=after))
        if after == log.last:
            assert isinstance(answer, Written)
            assert answer.sequence > self.stage.newest
            self.stage.newest = answer.sequence
            log.events.append((self.stage.newest, event, writer))
        else:
            self.is_view(answer, log, writer)

    @rule(job_id=st.sampled_from(["J1", "J2"]), reader=st.sampled_from(["one", "two"]))
    def read(self, job_id: str, reader: str) -> None:
        self.is_view(self.call(self.journals[reader].read, KIND, self.job(job_id)), self.logs[job_id], reader)

    # The connection

    @precondition(lambda self: self.outages < 1 and not self.queue.again)
    @rule()
    def lose_the_server(self) -> None:
        self.outages += 1
        self.call(self.stage.outage)
        self.arrive()

    # What holds

    @invariant()
    def figures_are_the_models(self) -> None:
        async def same() -> bool:
            state = await self.bus.consumer(self.name, "c")
            return (state.waiting, state.unacknowledged) == (len(self.queue.waiting), len(self.queue.leases))

        self.call(eventually, same, PATIENCE_S)
        assert self.puller.credit == self.queue.credit

    def arrive(self) -> None:
        """All that the model hands out now, in its order."""
        expected = self.queue.hand_out()
        found = self.call(take, self.puller, len(expected), PATIENCE_S)
        assert [(delivery.sequence, delivery.number) for delivery in found] == expected
        for delivery in found:
            kept = self.queue.kept[delivery.sequence]
            assert (delivery.subject, delivery.body) == (self.subject(kept.subject), kept.body)
        self.deliveries += found

    def gone(self, sequence: int) -> None:
        """What is acknowledged or deleted is gone soon after."""

        async def holds() -> bool:
            return await self.bus.get(self.name, sequence) is None

        self.call(eventually, holds, PATIENCE_S)

    def is_kept(self, found: Stored | None, sequence: int) -> None:
        kept = self.queue.kept.get(sequence)
        assert (found is None) == (kept is None)
        if found is not None and kept is not None:
            expected = (sequence, self.subject(kept.subject), kept.body, kept.message_id)
            assert (found.sequence, found.subject, found.body, found.headers.get(MSG_ID, "")) == expected

    def is_view(self, answer: Written | LogView, log: Log, reader: str) -> None:
        if not log.events:
            assert answer == EMPTY
            return
        sequence, tail, writer = log.events[-1]
        assert isinstance(answer, LogView)
        assert (answer.sequence, answer.mine, answer.opening) == (sequence, writer == reader, log.opening)
        assert type(answer.tail) is type(tail)
        assert answer.tail is not None
        assert (answer.tail.n, answer.tail.job_id) == (tail.n, tail.job_id)

    def one(self, pick: int) -> Delivery:
        """One of all deliveries so far, the latest first."""
        return self.deliveries[-1 - pick % len(self.deliveries)]


@pytest.fixture(scope="module")
def portal() -> Iterator[BlockingPortal]:
    """An event loop in a thread of its own."""
    with start_blocking_portal("asyncio") as portal:
        yield portal


def live_through(stage: Stage, examples: int) -> None:
    run_state_machine_as_test(
        lambda: Bus(stage),  # type: ignore[arg-type]  # any factory will do, says its documentation
        settings=settings(
            max_examples=examples, stateful_step_count=40, deadline=None, derandomize=True, database=None
        ),
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_bus_in_memory_does_as_the_model(portal: BlockingPortal) -> None:
    async def world() -> World:
        return memory_world(LEASE_S)

    live_through(Stage(portal, portal.call(world)), 60)


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.timeout(300)
def test_a_nats_server_does_as_the_model(portal: BlockingPortal, tmp_path: Path) -> None:
    with portal.wrap_async_context_manager(real_world(tmp_path)) as world:
        live_through(Stage(portal, world), 20)
