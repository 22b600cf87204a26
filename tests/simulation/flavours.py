"""Sorts of histories: what needs three things at once would hardly ever happen in an even mixture of all."""

from __future__ import annotations

from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from tests.simulation.faults import FaultKind, Side

__all__ = ["Flavour", "flavour_of"]


class Flavour(Struct, frozen=True, kw_only=True):
    """What there is more of than elsewhere."""

    name: str
    retry: dict[str, int] = {}
    """Settings of retries, for the gateways."""
    duplicates: int = 1
    """How often these are drawn among the faults."""
    focus: tuple[tuple[FaultKind, str, Side], ...] = ()
    """Faults of which three strike beside those that are drawn."""
    focus_from_s: float = 0.0
    """When they are armed, at the earliest."""
    twins: int = 3
    """Jobs that are published again."""
    twins_until_s: float = 8.0
    groups: int = 0
    """So many batches more."""
    choosy: float = 0.0
    """Share of batches that bound how many children are under way, or that end once some have completed."""
    failing: float = 0.25
    """Share of batches that fail when they are first reduced."""
    cancelled: float = 0.15
    """Share of batches that somebody cancels soon."""
    replayed: float = 0.0
    """Share of dead letters that somebody replays at once."""
    scenes: tuple[str, ...] = ()
    """Short stories of which one happens amid all this; see `scenes`."""
    strangers: float = 0.0
    """Share of batches under one of whose children's ids somebody has published something else before."""
    failing_once: int = 0
    """Tasks that fail once are so much likelier."""
    kinds: tuple[str, ...] = ("short", "talk")
    """Of jobs, each as likely."""
    burst_s: float = 0.0
    """Messages come in bursts so far apart; 0 where each comes for itself."""
    company: int = 0
    """So many short jobs share a call, however long they take; 0 where that is learned from them."""


MIXED: Final = Flavour(
    name="mixed",
    focus=(
        ("slow", "renew", "after"),
        ("slow", "renew", "before"),
        ("kill", "run", "after"),
        ("kill", "run", "before"),
        ("kill", "retrying", "after"),
    ),
    scenes=("late nak", "rush", "nothing"),
)
TWINS: Final = Flavour(
    name="twins",
    duplicates=3,
    focus=(
        ("lost request", "ack", "before"),
        ("crash", "ack", "before"),
        ("duplicate", "pull", "after"),
        ("deletion", "run", "before"),
    ),
    twins=8,
    replayed=0.7,
    scenes=("orphan", "orphan", "orphan", "late cancel"),
)
BATCHES: Final = Flavour(
    name="batches",
    retry={"max_lost": 1},
    focus=(
        ("crash", "child", "before"),
        ("crash", "requeued", "after"),
        ("lost reply", "requeued", "after"),
        ("crash", "cancelled", "before"),
        ("crash", "notice", "before"),
        ("lost reply", "progress", "after"),
    ),
    focus_from_s=4.0,
    scenes=("early child", "refused twin", "cancelled at the end", "half requeued"),
    strangers=0.5,
    groups=2,
    failing=0.6,
    cancelled=0.4,
    replayed=0.7,
)
CHOOSY: Final = replace(BATCHES, name="choosy", choosy=0.7)
MOVES: Final = Flavour(
    name="moves",
    retry={"delayed": 2},
    focus=(
        ("crash", "child", "before"),
        ("lost reply", "child", "after"),
        ("crash", "ack", "before"),
        ("partition", "nak", "before"),
    ),
    twins=9,
    twins_until_s=20.0,
    failing_once=8,
)
TRAINS: Final = Flavour(
    name="trains",
    kinds=("short", "short", "short", "talk"),
    burst_s=2.5,
    company=6,
    focus=(
        ("kill", "run", "before"),
        ("kill", "run", "after"),
        ("kill", "started", "after"),
        ("crash", "completed", "before"),
        ("crash", "ack", "before"),
        ("crash", "notice", "before"),
        ("lost reply", "started", "after"),
        ("lost reply", "completed", "after"),
        ("cancel", "started", "after"),
        ("cancel", "run", "before"),
        ("partition", "run", "after"),
        ("slow", "renew", "before"),
        ("drain", "run", "before"),
    ),
    twins=6,
    scenes=("crowd", "crowd and crash", "long crowd"),
)
BY_SEED: Final = (MIXED, TWINS, MIXED, BATCHES, MIXED, MOVES, TRAINS, CHOOSY)


def flavour_of(seed: int) -> Flavour:
    """A seed's flavour."""
    return BY_SEED[seed % len(BY_SEED)]
