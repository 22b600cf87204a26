"""What a kind may do at most: so many jobs a second, and so many at once of those that share a key.

Both are one gateway's. Times are seconds of any clock that does not go back.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable

__all__ = ["AVERAGED", "LONGEST_S", "SHORTEST_S", "TRIES", "Bucket", "Keys"]

SHORTEST_S = 0.05
LONGEST_S = 60.0
"""Bounds of what a job that is over a limit is asked to wait."""
TRIES = 4
"""How often those that wait for a key come by in the time that one job takes."""
AVERAGED = 5
"""Jobs over which that time is averaged, roughly."""

_GOLDEN = 0.6180339887498949


def _spread(count: int, jitter: float) -> float:
    """A number in [0, 1): those of consecutive counts lie evenly, and `jitter` tells gateways apart."""
    return (count * _GOLDEN + jitter) % 1.0


class Bucket:
    """Tokens, one a job: `rate` of them come a second, and no more than `burst` are kept."""

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._at = now
        self._turns: list[float] = []
        self._given = 0

    def there(self, now: float) -> int:
        """Whole tokens that are there."""
        self._fill(now)
        # What was added in small parts must not fall short of the whole.
        return int(self._tokens + 1e-9)

    def take(self, now: float) -> bool:
        """Take a token, if there is one."""
        if not self.there(now):
            return False
        self._tokens -= 1
        return True

    def give_back(self, now: float) -> None:
        """A token was taken for nothing."""
        self._fill(now)
        self._tokens = min(self._burst, self._tokens + 1)

    def due(self, count: int, now: float) -> float:
        """Seconds until `count` tokens are there, as many as are kept at most."""
        self._fill(now)
        return max(0.0, (min(count, self._burst) - self._tokens) / self._rate)

    def turn(self, now: float, jitter: float) -> float:
        """Seconds after which one more who found no token should come again: each gets a turn of its own."""
        while self._turns and self._turns[0] <= now:
            heapq.heappop(self._turns)
        self._given += 1
        longest = LONGEST_S * (1 + _spread(self._given, jitter)) / 2
        wait = min(longest, max(SHORTEST_S, self.due(1, now) + len(self._turns) / self._rate))
        heapq.heappush(self._turns, now + wait)
        return wait

    def _fill(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now


class Keys:
    """Who runs under which key: `most` jobs at once of each."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._running: dict[Hashable, dict[str, tuple[int, float]]] = {}
        self._waiting: dict[Hashable, int] = {}
        self._turns: list[tuple[float, int, Hashable]] = []
        self._given = 0
        self._average: float | None = None

    def take(self, key: Hashable, job: str, now: float) -> bool:
        """Let a job run under a key, if there is room. Another delivery of one that runs has its room already."""
        running = self._running.get(key, {})
        hands, since = running.get(job, (0, now))
        if not hands and len(running) >= self._most:
            return False
        self._running.setdefault(key, running)[job] = (hands + 1, since)
        return True

    def give_back(self, key: Hashable, job: str, now: float, *, ran: bool) -> None:
        """One hand less has the job. Of one that ran, the time that it took tells when others get their turn."""
        running = self._running[key]
        hands, since = running.pop(job)
        if hands > 1:
            running[job] = (hands - 1, since)
            return
        if ran:
            took = now - since
            self._average = took if self._average is None else self._average + (took - self._average) / AVERAGED
        if not running:
            del self._running[key]

    def turn(self, key: Hashable, now: float, jitter: float) -> float:
        """Seconds after which one more who found no room should come again; `jitter` is uniform in [0, 1)."""
        self._forget(now)
        ahead = self._waiting.get(key, 0)
        # Before any has ended, and where this one takes longer than others did, how long they run tells.
        ages = (now - since for _, since in self._running.get(key, {}).values())
        takes = max(SHORTEST_S, self._average or 0.0, *ages)
        self._given += 1
        within = min(LONGEST_S, 2 * takes * (ahead + 1) / (TRIES * self._most))
        wait = max(SHORTEST_S, within * _spread(self._given, jitter))
        self._waiting[key] = ahead + 1
        heapq.heappush(self._turns, (now + wait, self._given, key))
        return wait

    def __len__(self) -> int:
        """Keys of which anything is known."""
        return len(self._running.keys() | self._waiting.keys())

    def _forget(self, now: float) -> None:
        """Whoever's turn has come waits no more: here or at another gateway."""
        while self._turns and self._turns[0][0] <= now:
            _, _, key = heapq.heappop(self._turns)
            if self._waiting[key] > 1:
                self._waiting[key] -= 1
            else:
                del self._waiting[key]
