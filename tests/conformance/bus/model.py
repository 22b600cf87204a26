"""What a bus does, as plain data: a work queue with one consumer and one puller, and job logs.

Time stands still here: no lease ends, and a delayed message stays away. Whoever tries it on a bus keeps leases longer
than a try takes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from contracts.events import Event, Started

__all__ = ["Full", "Kept", "Log", "Queue"]


class Full(Exception):
    """No room for another message on the subject."""


@dataclass(frozen=True)
class Kept:
    """A message in the queue."""

    subject: str
    body: bytes
    message_id: str


@dataclass
class Queue:
    """A work queue that discards new messages of a full subject; its consumer's places; its puller's credit."""

    limit: int
    """Messages a subject."""
    places: int
    """Of messages that are leased out and not acknowledged."""
    last: int = 0
    kept: dict[int, Kept] = field(default_factory=dict)
    ids: dict[str, int] = field(default_factory=dict)
    waiting: list[int] = field(default_factory=list)
    leases: dict[int, int] = field(default_factory=dict)
    """Sequence to how often it was handed out."""
    again: list[int] = field(default_factory=list)
    """What was given back, in the order in which it was."""
    credit: int = 0

    def publish(self, subject: str, body: bytes, message_id: str) -> tuple[int, bool]:
        """Its sequence, and whether it is a duplicate."""
        if message_id in self.ids:
            return self.ids[message_id], True
        if sum(kept.subject == subject for kept in self.kept.values()) >= self.limit:
            raise Full
        self.last += 1
        self.kept[self.last] = Kept(subject, body, message_id)
        self.waiting.append(self.last)
        if message_id:
            self.ids[message_id] = self.last
        return self.last, False

    def hand_out(self) -> list[tuple[int, int]]:
        """What goes to the puller now: sequences, and the how-manieth delivery each is."""
        handed = []
        while self.credit:
            if self.again:
                sequence = self.again.pop(0)
            elif self.waiting and len(self.leases) < self.places:
                sequence = self.waiting.pop(0)
            else:
                break
            self.credit -= 1
            self.leases[sequence] = self.leases.get(sequence, 0) + 1
            handed.append((sequence, self.leases[sequence]))
        return handed

    def remove(self, sequence: int) -> None:
        """By an acknowledgement, whoever's, or by a delete."""
        self.kept.pop(sequence, None)
        self.leases.pop(sequence, None)
        self.waiting = [found for found in self.waiting if found != sequence]
        self.again = [found for found in self.again if found != sequence]

    def nak(self, sequence: int, *, delayed: bool) -> None:
        """By whoever had it once."""
        if sequence not in self.leases:
            return
        if delayed:
            self.again = [found for found in self.again if found != sequence]
        elif sequence not in self.again:
            self.again.append(sequence)

    def last_on(self, subject: str) -> int:
        """The last sequence on a subject, 0 for none; on any for an empty one."""
        return max((found for found, kept in self.kept.items() if subject in ("", kept.subject)), default=0)


@dataclass
class Log:
    """A job's log."""

    events: list[tuple[int, Event, str]] = field(default_factory=list)
    """Sequence, event, and who wrote it."""

    @property
    def last(self) -> int:
        """The last event's sequence; 0 for none."""
        return self.events[-1][0] if self.events else 0

    @property
    def opening(self) -> Started | None:
        """The last `started`."""
        found = [event for _, event, _ in self.events if isinstance(event, Started)]
        return found[-1] if found else None
