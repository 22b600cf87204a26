"""Short stories amid a history: several things in a row, each of which alone is nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from contracts import subjects
from contracts.headers import DEADLINE, PARENT
from tests.simulation.faults import Fault
from tests.simulation.kinds import Group, Member, Task

__all__ = ["SCENES", "Scene", "Sending"]


@dataclass(frozen=True, slots=True)
class Sending:
    """One message that somebody publishes."""

    at: float
    subject: str
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scene:
    """What is published, and what goes wrong."""

    sendings: list[Sending]
    faults: list[Fault]
    alone_s: float = 0.0
    """Until then nothing else goes wrong."""


def _orphan() -> Scene:
    """A job's first message is lost on its way, and its second deleted: it goes on under the first, come again."""
    job = msgspec.json.encode(Task(id="x0", takes_s=12.0))
    return Scene(
        [Sending(0.5, subjects.job("talk"), job), Sending(0.7, subjects.job("talk"), job)],
        [
            Fault("lost delivery", "pull", "after", 1, 0.0, 0.0, about=".x0"),
            Fault("deletion", "progress", "after", 2, 0.0, 0.0, about=".x0"),
            Fault("crash", "progress", "after", 1, 7.0, 0.0, about=".x0"),
        ],
        alone_s=9.0,
    )


def _late_cancel() -> Scene:
    """A cancel is on its way for so long that its job fails, and is replayed, before it arrives."""
    job = msgspec.json.encode(Task(id="x0", does="fails at once until replayed", takes_s=10.0))
    return Scene(
        [Sending(2.0, subjects.cancel("short", "x0")), Sending(2.1, subjects.job("short"), job)],
        [Fault("slow", "read", "before", 1, 0.0, 8.0, about=".x0")],
    )


def _early_child() -> Scene:
    """A child is published before its batch, fails, and is replayed: its batch finds two ends of it."""
    members = [
        Member(key="c0", kind="short", does="fails at once until replayed"),
        Member(key="c1", kind="short", takes_s=3),
    ]
    child = Task(id="x0-c0", does="fails at once until replayed")
    return Scene(
        [
            Sending(0.5, subjects.job("short"), msgspec.json.encode(child), {PARENT: "group.x0"}),
            Sending(7.0, subjects.job("group"), msgspec.json.encode(Group(id="x0", members=members))),
        ],
        [],
    )


def _late_nak() -> Scene:
    """A gateway is cut off as it gives a message back; when it is there again, another has long taken the job over."""
    job = msgspec.json.encode(Task(id="x0", does="fails at once, then returns", takes_s=14.0))
    return Scene([Sending(0.05, subjects.job("short"), job)], [Fault("partition", "nak", "before", 1, 0.0, 7.0)])


def _rush() -> Scene:
    """More jobs at once than there are slots, each over as it begins, while actors die."""
    sendings = [
        Sending(2.0, subjects.job(kind, high=high), msgspec.json.encode(Task(id=f"x{number}{kind}{high}")))
        for number in range(7)
        for kind in ("short", "talk")
        for high in (False, True)
    ]
    return Scene(sendings, [Fault("kill", "run", "after", count, 2.0, 0.0) for count in (2, 5, 9)])


def _cancelled_at_the_end() -> Scene:
    """A batch is asked to cancel while its result is on its way."""
    group = Group(id="x0", members=[Member(key="c0", kind="short")])
    return Scene(
        [Sending(2.0, subjects.job("group"), msgspec.json.encode(group)), Sending(4.0, subjects.cancel("group", "x0"))],
        [Fault("slow", "completed", "before", 1, 0.0, 4.0, about=".x0")],
    )


def _half_requeued() -> Scene:
    """A batch runs again, and its holder dies when it has opened a child's run, and not yet published its message."""
    group = Group(id="x0", members=[Member(key="c0", kind="short", takes_s=2.0)], does="fails at first")
    # A child that was cancelled has no dead letter: its batch alone runs it again.
    return Scene(
        [
            Sending(0.8, subjects.cancel("short", "x0-c0")),
            Sending(1.0, subjects.job("group"), msgspec.json.encode(group)),
        ],
        [Fault("crash", "requeued", "after", 1, 0.0, 0.0, about=".x0-c0")],
    )


def _refused_twin() -> Scene:
    """While a child of a batch runs, another input comes under its id, in the batch's name, and is refused."""
    members = [Member(key="c0", kind="short", takes_s=4.0), Member(key="c1", kind="short", takes_s=5.0)]
    twin = Task(id="x0-c0", value=-1)
    return Scene(
        [
            Sending(1.0, subjects.job("group"), msgspec.json.encode(Group(id="x0", members=members))),
            Sending(2.5, subjects.job("short"), msgspec.json.encode(twin), {PARENT: "group.x0"}),
        ],
        [],
    )


def _crowd(*faults: Fault) -> Scene:
    """Many short jobs at once, children and twins among them; some are cancelled while others still run."""
    members = [Member(key=f"c{number}", kind="short", takes_s=0.3 * number) for number in range(5)]
    sendings = [Sending(2.5, subjects.job("group"), msgspec.json.encode(Group(id="x0", members=members)))]
    for number in range(12):
        body = msgspec.json.encode(Task(id=f"x{number}", takes_s=0.4 * (number % 4), value=number))
        late = {DEADLINE: "2.5"} if number % 4 == 1 else {}
        sendings += [Sending(2.5, subjects.job("short"), body, late)] * (2 if number % 5 == 0 else 1)
    sendings += [Sending(2.5, subjects.cancel("short", job_id)) for job_id in ("x2", "x7", "x0-c3")]
    # Once more when they are over: of these trains everybody gets off.
    sendings += [
        Sending(7.5, subjects.job("short"), msgspec.json.encode(Task(id=f"x{n}", value=n))) for n in (0, 0, 4, 4, 8, 8)
    ]
    return Scene(sendings, [*faults], alone_s=9.0)


def _long_crowd() -> Scene:
    """Jobs that share a call for longer than a lease lasts, and a gateway that is cut off meanwhile."""
    sendings = [
        Sending(2.5, subjects.job("short"), msgspec.json.encode(Task(id=f"x{number}", takes_s=4.0)))
        for number in range(14)
    ]
    return Scene(sendings, [Fault("partition", "run", "before", 1, 2.5, 14.0, about=".x9")], alone_s=12.0)


SCENES: Final[Mapping[str, Callable[[], Scene]]] = {
    "orphan": _orphan,
    "late cancel": _late_cancel,
    "early child": _early_child,
    "late nak": _late_nak,
    "nothing": lambda: Scene([], []),
    "rush": _rush,
    "refused twin": _refused_twin,
    "cancelled at the end": _cancelled_at_the_end,
    "half requeued": _half_requeued,
    "crowd": lambda: _crowd(
        Fault("slow", "completed", "before", 1, 2.5, 2.0, about=".x3"),
        Fault("lost reply", "started", "after", 1, 2.5, 0.0, about=".x4"),
    ),
    "crowd and crash": lambda: _crowd(Fault("crash", "completed", "before", 1, 2.5, 0.0, about=".x6")),
    "long crowd": _long_crowd,
}
