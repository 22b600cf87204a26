"""How many short jobs travel in one call: enough that the call's own cost is spread thin, and no longer than a moment.

Who waits in a call waits for all that run before it, so a call's time is bounded, not its number of jobs. How long a
job takes is learned from the calls that ended: slower jobs make smaller calls at once, quicker ones make them grow.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

__all__ = ["CALL_S", "MOST", "Sizing"]

CALL_S: Final = 0.05
"""What one call is to take at most, as far as that can be known."""
MOST: Final = 256
"""Jobs in one call; beyond it nothing is gained."""
FIRST: Final = 1
"""Jobs in one call while nothing is known of them."""
GROWTH: Final = 2
MEMORY: Final = 0.5
"""Weight of the newest call where jobs take less time than they did."""


class Sizing(Struct, frozen=True):
    """What is known of a kind's jobs."""

    limit: int = FIRST
    """Jobs that the next call may carry."""
    each_s: float = 0.0
    """Seconds that a job takes."""

    def after(self, jobs: int, seconds: float) -> Sizing:
        """What is known once a call with so many jobs took so long."""
        each = seconds / jobs
        if self.each_s and each < self.each_s:
            each = self.each_s + MEMORY * (each - self.each_s)
        fits = int(CALL_S / each) if each > CALL_S / MOST else MOST
        return Sizing(max(1, min(fits, GROWTH * self.limit, MOST)), each)
