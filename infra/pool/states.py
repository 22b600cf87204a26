"""What an actor may be, and what may become of it. Pure.

STARTING ──▶ READY ◀──▶ BUSY
    │          │ │        │ │
    │          │ └▶ DRAINING ◀┘ takes nothing new, and goes once it is idle
    ▼          ▼       ▼    ▼
    └────────▶ DEAD ◀──┴────┘
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Final

__all__ = ["TRANSITIONS", "ActorState", "count", "moved"]


class ActorState(Enum):
    """One actor's state."""

    STARTING = "starting"
    READY = "ready"
    """Idle: at work for its profile, or a spare."""
    BUSY = "busy"
    DRAINING = "draining"
    DEAD = "dead"
    """Nothing new reaches it; what is left of it is being ended."""


TRANSITIONS: Final[Mapping[ActorState, frozenset[ActorState]]] = {
    ActorState.STARTING: frozenset({ActorState.READY, ActorState.DEAD}),
    ActorState.READY: frozenset({ActorState.BUSY, ActorState.DRAINING, ActorState.DEAD}),
    ActorState.BUSY: frozenset({ActorState.READY, ActorState.DRAINING, ActorState.DEAD}),
    ActorState.DRAINING: frozenset({ActorState.DEAD}),
    ActorState.DEAD: frozenset(),
}


def moved(before: ActorState, after: ActorState) -> ActorState:
    """`after`, where it may follow `before`, or is the same."""
    if after is not before and after not in TRANSITIONS[before]:
        raise ValueError(f"an actor that is {before.value} cannot become {after.value}")
    return after


def count(states: Iterable[ActorState]) -> dict[str, int]:
    """How many are in each state, also in those in which none is."""
    counted = {state.value: 0 for state in ActorState}
    for state in states:
        counted[state.value] += 1
    return counted
