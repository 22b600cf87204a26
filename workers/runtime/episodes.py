"""Pressure as it is told: `workers.backpressure.applied` once when it begins, `.released` once when it is over."""

from __future__ import annotations

from collections.abc import Callable

import anyio
from msgspec import Struct

from contracts.fleet import BackpressureApplied, BackpressureReleased, PressureReason
from workers.core.watermark import Marks
from workers.runtime.fleet import Fleet

__all__ = ["Episode", "Episodes"]


class Episode(Struct):
    """One time for which some kinds are under pressure for one reason."""

    reason: PressureReason
    kinds: tuple[str, ...]
    since: float
    completed: dict[str, int]
    """Jobs of each kind that had completed here when it began."""


class Episodes:
    """Says when pressure begins and when it is over, and how it stood then."""

    def __init__(
        self,
        fleet: Fleet,
        *,
        marks: Callable[[str], Marks],
        actors: Callable[[str], int],
        depth: Callable[[str], int],
        waited_ms: Callable[[str], int | None],
    ) -> None:
        self._fleet = fleet
        self._marks = marks
        self._actors = actors
        self._depth = depth
        self._waited_ms = waited_ms

    def begin(self, reason: PressureReason, kinds: tuple[str, ...]) -> Episode:
        """Pressure on these kinds begins now."""
        completed = {kind: self._fleet.completed(kind) for kind in kinds}
        for kind in kinds:
            self._fleet.say(
                BackpressureApplied,
                kind=kind,
                depth=self._depth(kind),
                high=self._marks(kind).high,
                actors=self._actors(kind),
                reason=reason,
                waited_ms=self._waited_ms(kind),
            )
        return Episode(reason, kinds, anyio.current_time(), completed)

    def end(self, episode: Episode, until: float) -> float:
        """It was over at `until`, of anyio's clock; how many seconds it had lasted."""
        lasted = until - episode.since
        for kind in episode.kinds:
            self._fleet.say(
                BackpressureReleased,
                kind=kind,
                depth=self._depth(kind),
                low=self._marks(kind).low,
                lasted_ms=int(lasted * 1000),
                completed=self._fleet.completed(kind) - episode.completed[kind],
            )
        return lasted
