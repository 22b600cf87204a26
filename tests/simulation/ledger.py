"""What user code really did, written down where it runs and read by nobody but the judge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["AttemptKey", "Entry", "How", "Ledger"]

AttemptKey = tuple[str, str, int, int]
"""Kind, id, run and attempt."""
How = Literal["returned", "raised", "stopped", "lost"]


@dataclass(slots=True)
class Entry:
    """One execution of one attempt."""

    kind: str
    job_id: str
    run: int
    attempt: int
    nonce: str
    """Of the gateway that had it run: a prefix of the ids of all that this gateway writes."""
    began: float
    durable: int
    """The last sequence of EVENTS when it began."""
    ended: float | None = None
    how: How | None = None
    result: bytes | None = None

    @property
    def key(self) -> AttemptKey:
        """Which attempt it was."""
        return self.kind, self.job_id, self.run, self.attempt

    def overlaps(self, other: Entry) -> bool:
        """Whether both were being executed at some moment."""
        first, second = sorted((self, other), key=lambda entry: entry.began)
        return first.ended is None or first.ended > second.began


class Ledger:
    """Every execution, in the order in which they began."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.shared: list[list[AttemptKey]] = []
        """Calls for jobs that set out together; in the end there may be one of them left."""

    def __repr__(self) -> str:
        return f"Ledger({len(self.entries)} executions)"

    def end(self, entry: Entry, how: How, now: float, result: bytes | None = None) -> None:
        """An execution is over. What is over stays as it is: nothing runs on in a gateway that was killed."""
        if entry.ended is None:
            entry.ended, entry.how, entry.result = now, how, result

    def died(self, nonce: str, now: float) -> None:
        """A gateway was killed, and what it executed with it."""
        for entry in self.entries:
            if entry.nonce == nonce:
                self.end(entry, "lost", now)
