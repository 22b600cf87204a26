"""When an actor is started after others came to nothing: at once, later, or one at a time. Pure: time is passed in."""

from __future__ import annotations

import math
from typing import Final

__all__ = ["OPENS_AFTER", "Streak", "backoff_s"]

BACKOFF_S: Final = 0.1
BACKOFF_CAP_S: Final = 30.0
OPENS_AFTER: Final = 5
"""So many failures in a row open the circuit: from then on one actor at a time is tried."""


def backoff_s(failures: int) -> float:
    """Seconds to wait before an actor is started, after so many that came to nothing in a row: 0, 0.1, 0.2, … 30."""
    return min(BACKOFF_CAP_S, BACKOFF_S * 2 ** (failures - 1)) if failures else 0.0


class Streak:
    """Failures in a row. Those of actors that were started side by side count as one."""

    def __init__(self) -> None:
        self.failures = 0
        self._last = -math.inf

    @property
    def open(self) -> bool:
        """Whether the circuit is open."""
        return self.failures >= OPENS_AFTER

    @property
    def next_try(self) -> float:
        """When the next actor may be started."""
        return self._last + backoff_s(self.failures)

    def failed(self, *, began: float, now: float) -> None:
        """An actor started at `began` has come to nothing."""
        if began > self._last:
            self.failures += 1
            self._last = now

    def succeeded(self) -> None:
        """One did what it was to do."""
        self.failures = 0
        self._last = -math.inf
