"""`decide` as a state machine of Hypothesis: rules that are what may happen to a job, a model of its log, invariants.

`test_properties` lives through lists of what happens; here each step is drawn for the state it finds, so that what
happens is always something that can, and a failing history shrinks to the few steps that matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec import Raw

from contracts.events import Failed, FilesTracked, FilesTrackingFailed, Progress, Requeued, Started, is_terminal
from tests.core.explore import outcome_of
from tests.core.helpers import error
from tests.core.world import LIMIT_S, Worker, World
from workers.core import job as core
from workers.core.job import Job
from workers.core.lifecycle import TABLE
from workers.core.outcomes import OUTCOMES
from workers.core.parts import Decision

pytestmark = pytest.mark.slow

PICKS: Final = st.integers(0, 5)
GATEWAYS: Final = st.sampled_from(["g1", "g2"])
BEYOND: Final = 2_000
"""Steps after which a world that is left in peace must be done."""

MESSAGES: Final[list[dict[str, Any]]] = [
    {},
    {"parent": "b.P1", "index": 1},
    {"parent": "b.P2", "index": 1},
    {"stream": "PLANNING"},
    {"input_sha256": "B", "parent": "b.P2", "index": 1},
    {"error": error("decode"), "parent": "b.P1", "index": 1},
]
REPORTS: Final = (Progress, FilesTracked, FilesTrackingFailed)
HAPPENS: Final[list[core.Stimulus]] = [
    core.Reported(done=1),
    core.Tracked("c0ffee", []),
    core.TrackingFailed(error("storage"), ["a"]),
    core.Returned(Raw(b"1")),
    core.Raised(error()),
    core.Raised(error(retryable=True)),
    core.Gone(error("lost", retryable=True)),
    core.Drained(),
]


def can(holds: Callable[[World], object]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A rule that only applies to a world of which this is true."""
    return precondition(lambda machine: bool(holds(machine.world)))


class LifeOfAJob(RuleBasedStateMachine):
    """One job, its messages, two gateways and an operator."""

    batch = False
    world: World

    @initialize(child=st.booleans())
    def publish_first(self, child: bool) -> None:
        self.world = World(batch=self.batch)
        self.world.publish(**(MESSAGES[1] if child else MESSAGES[0]))

    # What gateways do

    @can(lambda world: world.waiting)
    @rule(pick=PICKS, gateway=GATEWAYS)
    def deliver(self, pick: int, gateway: str) -> None:
        self.world.deliver(_one(self.world.waiting, pick), gateway)

    @can(lambda world: world.busy)
    @rule(pick=PICKS, lost=st.booleans())
    def step(self, pick: int, lost: bool) -> None:
        self.world.step(_one(self.world.busy, pick), answer_lost=lost)

    @can(lambda world: world.busy)
    @rule(pick=PICKS)
    def go_on(self, pick: int) -> None:
        worker = _one(self.world.busy, pick)
        for _ in range(12):
            if worker in self.world.busy:
                self.world.step(worker)

    @can(lambda world: world.running)
    @rule(pick=PICKS, stimulus=st.sampled_from(HAPPENS))
    def happen(self, pick: int, stimulus: core.Stimulus) -> None:
        _one(self.world.running, pick).inbox.append(stimulus)

    @can(lambda world: world.running)
    @rule(pick=PICKS)
    def look(self, pick: int) -> None:
        worker: Worker = _one(self.world.running, pick)
        worker.inbox.append(core.LogRead(self.world.view(worker)))

    # What goes wrong

    @can(lambda world: world.handed_out)
    @rule(pick=PICKS)
    def expire(self, pick: int) -> None:
        _one(self.world.handed_out, pick).holder = None

    @can(lambda world: world.workers)
    @rule(pick=PICKS)
    def lose_lease(self, pick: int) -> None:
        self.world.lose_lease(_one(self.world.workers, pick))

    @can(lambda world: world.workers)
    @rule(gateway=GATEWAYS)
    def crash(self, gateway: str) -> None:
        self.world.crash(gateway)

    @rule(pick=PICKS)
    def spoil(self, pick: int) -> None:
        self.world.spoil(pick)

    @rule(seconds=st.sampled_from([1.0, LIMIT_S]))
    def wait(self, seconds: float) -> None:
        self.world.wait(seconds)

    @rule(crowded=st.booleans(), full=st.booleans())
    def crowd(self, crowded: bool, full: bool) -> None:
        """Many messages of the lane wait out a delay, or no longer; the queue has no room, or has again."""
        self.world.crowded, self.world.full = crowded, full

    # What people do

    @can(lambda world: len(world.messages) < 5)
    @rule(message=st.sampled_from(MESSAGES))
    def publish(self, message: dict[str, Any]) -> None:
        self.world.publish(**message)

    @rule(parent=st.sampled_from([None, "b.P1"]))
    def cancel(self, parent: str | None) -> None:
        self.world.cancel(parent=parent)

    @can(lambda world: isinstance(world.tail, Failed))
    @rule()
    def replay(self) -> None:
        self.world.replay()

    # What always holds, beside what the world checks of each append and each ack

    @invariant()
    def a_log_has_no_gap(self) -> None:
        assert [event.n for event in self.log] == list(range(1, len(self.log) + 1))

    @invariant()
    def a_run_ends_once_and_nothing_follows_but_another(self) -> None:
        for event, follower in zip(self.log, self.log[1:], strict=False):
            assert not is_terminal(event) or isinstance(follower, Requeued)

    @invariant()
    def reports_are_of_an_attempt_that_began(self) -> None:
        began = {(event.run, event.attempt) for event in self.log if isinstance(event, Started)}
        assert all((event.run, event.attempt) in began for event in self.log if isinstance(event, REPORTS))

    @invariant()
    def a_settled_message_is_ended_or_buried_or_spare(self) -> None:
        if getattr(self, "world", None) is None or any(is_terminal(event) for event in self.log):
            return
        origin = self.log[-1].origin if self.log else None
        buried = {letter for letter, _ in self.world.letters}
        for message in self.world.messages:
            moved = any(other is not message and not other.settled for other in self.world.twins(message))
            assert not (message.settled and message.own == origin) or message.own in buried or moved

    def teardown(self) -> None:
        """Left in peace, everything ends: no message comes back for ever, and the log ends."""
        world = self.world
        world.full = False
        world.rest(BEYOND)
        assert self.log, "nothing was ever said"
        assert is_terminal(self.log[-1]), "the log never ends"

    @property
    def log(self) -> list[Any]:
        return [event for _, event, _ in self.world.log] if hasattr(self, "world") else []


class LifeOfABatch(LifeOfAJob):
    """The same, of a kind that expands."""

    batch = True


def _one(of: list[Any], pick: int) -> Any:
    return of[pick % len(of)]


@pytest.mark.parametrize("machine", [LifeOfAJob, LifeOfABatch])
def test_whatever_happens(machine: type[RuleBasedStateMachine]) -> None:
    with only_declared():
        run_state_machine_as_test(
            machine,
            settings=settings(max_examples=150, stateful_step_count=60, deadline=None, derandomize=True, database=None),
        )


@contextmanager
def only_declared() -> Iterator[None]:
    """Meanwhile no decision may come to what `OUTCOMES` does not declare."""
    undecorated = dict(TABLE)
    for (phase, stimulus), transition in undecorated.items():

        def checked(
            job: Job, what: Any, now: datetime, jitter: float, *, key=(phase, stimulus), transition=transition
        ) -> Decision:
            after_it, commands = transition(job, what, now, jitter)
            assert outcome_of(after_it, commands) in OUTCOMES[key], f"{key} came to what is not declared"
            return after_it, commands

        TABLE[phase, stimulus] = checked
    try:
        yield
    finally:
        TABLE.update(undecorated)
