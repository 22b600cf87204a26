"""Steps of the job path, faults, and which can strike where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

__all__ = ["BY_COMMAND", "FAULTS", "STEPS", "Fault", "FaultKind", "Side", "can_strike", "sides_of", "step_of"]

Side = Literal["before", "after"]

FaultKind = Literal[
    "crash",
    "freeze",
    "partition",
    "lost request",
    "lost reply",
    "lost delivery",
    "duplicate",
    "slow",
    "kill",
    "cancel",
    "replay",
    "drain",
    "deletion",
]
FAULTS: Final[tuple[FaultKind, ...]] = get_args(FaultKind)

EVENTS: Final = ("started", "progress", "retrying", "completed", "failed", "cancelled", "requeued")
STEPS: Final = (
    "pull",
    "read",
    "started",
    "run",
    "progress",
    "renew",
    "retrying",
    "dlq",
    "completed",
    "failed",
    "cancelled",
    "notice",
    "child",
    "probe",
    "ack",
    "nak",
    "requeued",
    "answer",
    "command ack",
)
"""In the order of a job's life."""

BY_COMMAND: Final = ("cancelled", "requeued", "answer", "command ack")
"""Steps that only a command brings about."""

_OPERATIONS: Final[Mapping[str, str]] = {"get": "probe", "nak": "nak", "in_progress": "renew"}
_PUBLISHED: Final[Mapping[str, str]] = {"dlq": "dlq", "joins": "notice", "jobs": "child"}
_LOST_ON_THE_WAY: Final = ("lost request", "lost reply")
_AT_THE_PULL: Final = ("lost delivery", "duplicate")


@dataclass(slots=True)
class Fault:
    """One thing that will go wrong: at the `count`-th time that a gateway comes by its step, from `armed_s` on."""

    kind: FaultKind
    step: str
    side: Side
    count: int
    armed_s: float
    lasts_s: float
    chases: bool = False
    """It strikes the job that was struck last, at whatever step, so that trouble comes in pairs."""
    about: str = ""
    """`.<job id>` of the only job that it strikes, as long as it has patience."""

    def meets(self, step: str, side: Side, subject: str, now: float, patience_s: float, *, again: bool) -> bool:
        """Whether it strikes here. A step that does not come in time makes it strike at any that it can.

        `subject` ends with the job's id, where that is known; `again` says that it is the job that was struck last.
        """
        if now < self.armed_s:
            return False
        if self.about and now < self.armed_s + patience_s and not subject.endswith(self.about):
            return False
        if self.chases and again and can_strike(self.kind, step, side):
            self.count -= 1
            return self.count <= 0
        if (step, side) == (self.step, self.side):
            self.count -= 1
            return self.count <= 0
        return now >= self.armed_s + patience_s and can_strike(self.kind, step, side)


def step_of(op: str, subject: str) -> str | None:
    """The step of the job path that an operation on the bus is; None for what lies beside it."""
    tokens = subject.split(".")
    if op == "publish":
        if tokens[0] == "orchestration":
            return tokens[2]
        if tokens[:2] == ["workers", "control"]:
            return "answer"
        return _PUBLISHED.get(tokens[0])
    if op == "last":
        return "read" if tokens[0] == "orchestration" else None
    if op == "ack":
        return "command ack" if tokens[0] == "control" else "ack"
    return _OPERATIONS.get(op)


def sides_of(step: str) -> tuple[Side, ...]:
    """Where a fault can strike at a step. A delivery is seen when it was made; nobody sees a settling arrive."""
    if step == "pull":
        return ("after",)
    return ("before",) if step in ("ack", "nak", "command ack") else ("before", "after")


def can_strike(kind: FaultKind, step: str, side: Side) -> bool:
    """Whether such a fault can strike there."""
    if kind in _AT_THE_PULL:
        return step == "pull"
    if kind in _LOST_ON_THE_WAY:
        return step not in ("pull", "run") and side == ("before" if kind == "lost request" else "after")
    if kind == "slow":
        return step != "pull"
    return side in sides_of(step)
