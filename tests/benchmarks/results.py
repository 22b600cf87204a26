"""What sections find: figures of single rounds, their medians, and targets that are met or missed."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct, field

__all__ = ["Findings", "Plan", "Target", "median", "percentile"]


class Plan(Struct, frozen=True):
    """How much is measured."""

    rounds: int
    jobs: int
    quick: bool
    say: Callable[[str], None]
    only: Sequence[str] = ()
    """Of `throughput`, the contenders; all where empty."""


class Target(Struct, frozen=True):
    """A figure, and what it should be."""

    what: str
    value: float
    wanted: float
    at_least: bool = True
    """`wanted` is the least that is wanted; otherwise the most."""

    @property
    def met(self) -> bool:
        """Whether it is what it should be."""
        return self.value >= self.wanted if self.at_least else self.value <= self.wanted


class Findings(Struct):
    """Of one section."""

    figures: dict[str, Any] = field(default_factory=dict)
    """For the JSON document, single rounds included."""
    targets: list[Target] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """Results that were not what they had to be, and contenders that failed."""
    table: list[tuple[str, ...]] = field(default_factory=list)
    """For people: the first row is the head."""


def median(rounds: Sequence[float], digits: int = 1) -> float:
    """The middle one; of an even number the mean of the two in the middle."""
    return round(statistics.median(rounds), digits)


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that so many percent do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * percent // 100) - 1))]
