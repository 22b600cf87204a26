"""`workers.core`, whatever happens in whatever order: no job is lost, none ends twice, and no log has a gap."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from contracts.events import Failed, Retrying, Started, is_terminal
from tests.core.helpers import error
from tests.core.world import LIMIT_S, World
from workers.core import job as core
from workers.core.tally import Tally

pytestmark = pytest.mark.slow

BEYOND: Final = 2_000
"""Steps after which a world that is left in peace must be done."""

Act = Callable[[World, int], None]


def publish(world: World, pick: int, **fields: object) -> None:
    # A child knows its place among its siblings, a stranger does not.
    index = 0 if fields.get("parent") is None else 1
    world.publish(**({"index": index} | fields))  # type: ignore[arg-type]


def deliver(world: World, pick: int, gateway: str) -> None:
    if world.waiting:
        world.deliver(world.waiting[pick % len(world.waiting)], gateway)


def expire(world: World, pick: int) -> None:
    """The server hands the message out again, and its holder does not know."""
    if world.handed_out:
        world.handed_out[pick % len(world.handed_out)].holder = None


def step(world: World, pick: int, *, answer_lost: bool = False) -> None:
    if world.busy:
        world.step(world.busy[pick % len(world.busy)], answer_lost=answer_lost)


def go_on(world: World, pick: int) -> None:
    """One worker goes as far as it gets."""
    if world.busy:
        worker = world.busy[pick % len(world.busy)]
        for _ in range(12):
            if worker in world.busy:
                world.step(worker)


def happen(world: World, pick: int, stimulus: core.Stimulus) -> None:
    if world.running:
        world.running[pick % len(world.running)].inbox.append(stimulus)


def look(world: World, pick: int) -> None:
    """A running job is told what the log is just now; it may hear it late."""
    if world.running:
        worker = world.running[pick % len(world.running)]
        worker.inbox.append(core.LogRead(world.view(worker)))


def lose_lease(world: World, pick: int) -> None:
    if world.workers:
        world.lose_lease(world.workers[pick % len(world.workers)])


def crash(world: World, pick: int) -> None:
    world.crash(("g1", "g2")[pick % 2])


def cancel(world: World, pick: int) -> None:
    world.cancel(parent=(None, "b.P1")[pick % 2])


def replay(world: World, pick: int) -> None:
    if isinstance(world.tail, Failed):
        world.replay()


def purge(world: World, pick: int) -> None:
    """Somebody deletes the very message that the log belongs to.

    Not where it may have been moved: no message that comes later can tell that such a one is gone, so its job waits for
    a cancel.
    """
    if isinstance(world.tail, (Started, Retrying)) and not world.was_crowded:
        world.purge()


def wait(world: World, pick: int) -> None:
    world.wait((1.0, 1.0, 1.0, LIMIT_S)[pick % 4])


def _with(act: Callable[..., None], **fields: object) -> Act:
    return lambda world, pick: act(world, pick, **fields)


def crowd(world: World, pick: int) -> None:
    """Too many messages wait out a delay, or no longer; the queue has no room, or has again."""
    if not world.purged:
        world.crowded, world.full = pick % 2 == 0, pick == 4
        world.was_crowded |= world.crowded


ACTS: Final[Mapping[str, tuple[int, Act]]] = {
    "step": (16, step),
    "publish": (1, publish),
    "publish a child": (1, _with(publish, parent="b.P1")),
    "publish another's child": (1, _with(publish, parent="b.P2")),
    "publish on a route": (1, _with(publish, stream="PLANNING")),
    "publish other input": (1, _with(publish, input_sha256="B", parent="b.P2")),
    "publish what does not decode": (1, _with(publish, error=error("decode"), parent="b.P1")),
    "spoil": (3, lambda world, pick: world.spoil(pick)),
    "deliver to g1": (8, _with(deliver, gateway="g1")),
    "deliver to g2": (6, _with(deliver, gateway="g2")),
    "step, the answer is lost": (5, _with(step, answer_lost=True)),
    "go on": (12, go_on),
    "report": (4, _with(happen, stimulus=core.Reported(done=1))),
    "return": (1, _with(happen, stimulus=core.Returned(Raw(b"1")))),
    "fail": (1, _with(happen, stimulus=core.Raised(error()))),
    "raise": (2, _with(happen, stimulus=core.Raised(error(retryable=True)))),
    "lose the actor": (2, _with(happen, stimulus=core.Gone(error("lost", retryable=True)))),
    "drain": (2, _with(happen, stimulus=core.Drained())),
    "look": (4, look),
    "expire": (4, expire),
    "lose a lease": (2, lose_lease),
    "crash": (2, crash),
    "cancel": (1, cancel),
    "replay": (4, replay),
    "purge": (1, purge),
    "crowd": (2, crowd),
    "wait": (2, wait),
}
WEIGHTED: Final = [name for name, (weight, _) in ACTS.items() for _ in range(weight)]

HISTORIES: Final = st.lists(st.tuples(st.sampled_from(WEIGHTED), st.integers(0, 5)), min_size=40, max_size=100)


@pytest.mark.parametrize("batch", [False, True], ids=["job", "batch"])
@given(parent=st.sampled_from([None, "b.P1"]), history=HISTORIES)
@settings(max_examples=200, deadline=None, derandomize=True, database=None)
def test_whatever_happens(parent: str | None, history: list[tuple[str, int]], batch: bool) -> None:
    world = World(batch=batch)
    publish(world, 0, parent=parent)
    for name, pick in history:
        ACTS[name][1](world, pick)
        assert [written.n for _, written, _ in world.log] == list(range(1, len(world.log) + 1))
    leave_in_peace(world)
    runs = [written.run for _, written, _ in world.log if is_terminal(written)]
    assert sorted(set(runs)) == runs
    assert world.tail is not None
    assert is_terminal(world.tail), "the log never ends"
    for parent in {message.parent for message in world.messages} - {None}:
        tally = Tally(["k.other", "k.J"])
        folded = [tally.fold(notice) for to, notice in world.notices if to == parent]
        assert any(folded), f"{parent} waits for ever"


def leave_in_peace(world: World) -> None:
    """Nothing more goes wrong, and whatever runs succeeds. Every message must be settled in the end."""
    if world.purged and world.opening is not None:
        # What lost its message goes on when the same is published again.
        world.publish(world.opening.input_sha256)
    world.rest(BEYOND)
