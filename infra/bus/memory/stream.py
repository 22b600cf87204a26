"""One stream: what it keeps, and what it refuses for want of room."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import anyio

from infra.bus.base import PubAck, Stored, StreamFull
from infra.bus.memory.checks import check_after_duplicates, check_before_duplicates
from infra.bus.memory.wire import block_size
from infra.bus.topology import NANOSECONDS, subject_matches

if TYPE_CHECKING:
    from infra.bus.memory.consumer import Consumer

__all__ = ["EPOCH", "Stream", "as_time"]

EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""The server's time when anyio's clock shows 0."""


def as_time(now: float) -> datetime:
    """The server's time at `now` seconds of anyio's clock."""
    return EPOCH + timedelta(seconds=now)


@dataclass(frozen=True, slots=True)
class _Kept:
    message: Stored
    at: float
    size: int


class Stream:
    """Messages by sequence, and indices of them. `now` is always anyio's clock, in seconds."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = dict(config)
        self.consumers: dict[str, Consumer] = {}
        self.last_sequence = 0
        self.bytes = 0
        self.changed = anyio.Event()
        self._kept: dict[int, _Kept] = {}
        self._by_subject: dict[str, dict[int, None]] = {}
        self._by_last_token: dict[str, set[str]] = {}
        self._ids: dict[str, tuple[int, float]] = {}
        self._last_id = ""

    def __repr__(self) -> str:
        return f"Stream({self.config['name']}, {len(self._kept)} messages, last {self.last_sequence})"

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.config["name"])

    def takes(self, subject: str) -> bool:
        """Whether what is published on `subject`, which may hold wildcards, is stored here."""
        return any(subject_matches(pattern, subject) for pattern in self.config["subjects"])

    def messages(self, subject: str = ">") -> Iterator[Stored]:
        """What is kept on a subject filter, in order."""
        return (kept.message for kept in self._kept.values() if subject_matches(subject, kept.message.subject))

    def counts(self) -> dict[str, int]:
        """How many messages each subject has."""
        return {subject: len(sequences) for subject, sequences in self._by_subject.items()}

    def get(self, sequence: int) -> Stored | None:
        """The message with that sequence."""
        kept = self._kept.get(sequence)
        return kept.message if kept else None

    def last(self, subject: str | None) -> int:
        """The last sequence on a subject filter, 0 for none; of the whole stream, ever, for None."""
        if subject is None:
            return self.last_sequence
        if subject == ">":
            # The server looks under the stream's last sequence alone: 0 where that message is gone, whatever is left.
            return self.last_sequence if self.last_sequence in self._kept else 0
        return max((next(reversed(self._by_subject[found])) for found in self._matching(subject)), default=0)

    def after(self, sequence: int, subject: str) -> Iterator[int]:
        """Sequences greater than `sequence` that are kept on a subject filter, in order."""
        first = next(iter(self._kept), self.last_sequence + 1)
        for candidate in range(max(sequence + 1, first), self.last_sequence + 1):
            kept = self._kept.get(candidate)
            if kept is not None and subject_matches(subject, kept.message.subject):
                yield candidate

    def publish(self, subject: str, body: bytes, headers: Mapping[str, str], now: float) -> PubAck:
        """Store a message, or find that it is stored. Raises `Refused` and its kin."""
        self.expire(now)
        check_before_duplicates(self.config, subject, headers, self.last)
        message_id = headers.get("Nats-Msg-Id", "")
        if message_id and message_id in self._ids:
            return PubAck(self.name, self._ids[message_id][0], duplicate=True)
        check_after_duplicates(self.config, headers, self._last_id)
        size = _size(subject, body, headers)
        self._check_room(subject, size)
        sequence = self._store(subject, body, headers, size, now)
        # A refused id is not remembered: published again, the message is stored.
        self._last_id = message_id
        if message_id:
            self._ids[message_id] = (sequence, now)
        self._discard_old(subject)
        return PubAck(self.name, sequence)

    def remove(self, sequence: int) -> None:
        """Forget a message, and that it was ever to be delivered; its id is still remembered."""
        kept = self._kept.pop(sequence, None)
        if kept is None:
            return
        self.bytes -= kept.size
        subject = kept.message.subject
        sequences = self._by_subject[subject]
        del sequences[sequence]
        if not sequences:
            del self._by_subject[subject]
            _discard(self._by_last_token, _last_token(subject), subject)
        for consumer in self.consumers.values():
            consumer.drop(sequence)

    def bring_back(self, message: Stored) -> None:
        """Hold again what was removed, and tell no consumer: so a server may start whose disk was full."""
        size = _size(message.subject, message.body, message.headers)
        self._kept[message.sequence] = _Kept(message, (message.time - EPOCH).total_seconds(), size)
        self._kept = dict(sorted(self._kept.items()))
        sequences = self._by_subject.setdefault(message.subject, {})
        self._by_subject[message.subject] = dict.fromkeys(sorted({*sequences, message.sequence}))
        self._by_last_token.setdefault(_last_token(message.subject), set()).add(message.subject)
        self.bytes += size

    def expire(self, now: float) -> None:
        """Forget what is too old, messages and ids."""
        oldest = now - self.config["max_age"] / NANOSECONDS
        while self.config["max_age"] and self._kept:
            sequence, kept = next(iter(self._kept.items()))
            if kept.at > oldest:
                break
            self.remove(sequence)
        since = now - self.config["duplicate_window"] / NANOSECONDS
        while self._ids:
            message_id, (_, at) = next(iter(self._ids.items()))
            if at > since:
                break
            del self._ids[message_id]

    def update(self, config: Mapping[str, Any]) -> None:
        """Go on with another configuration. A lower limit per subject deletes at once, whatever `discard` says."""
        self.config.update(config)
        for subject in list(self._by_subject):
            self._discard_old(subject)

    def _matching(self, subject: str) -> list[str]:
        if subject in self._by_subject:
            return [subject]
        last = _last_token(subject)
        # A log's filter ends with the job's id: few subjects do.
        candidates = self._by_subject if last in ("*", ">") else self._by_last_token.get(last, ())
        return [found for found in candidates if subject_matches(subject, found)]

    def _check_room(self, subject: str, size: int) -> None:
        if self.config["discard"] != "new":
            return
        limit, kept = self.config["max_msgs_per_subject"], self._by_subject.get(subject, {})
        replaces = 0 < limit <= len(kept)
        if replaces and self.config["discard_new_per_subject"]:
            raise StreamFull(503, 10077, "maximum messages per subject exceeded")
        if 0 < self.config["max_bytes"] < self.bytes + size:
            # A message that pushes out a larger one of its subject is welcome.
            if replaces and self._kept[next(iter(kept))].size >= size:
                return
            raise StreamFull(503, 10077, "maximum bytes exceeded")

    def _store(self, subject: str, body: bytes, headers: Mapping[str, str], size: int, now: float) -> int:
        self.last_sequence += 1
        message = Stored(subject=subject, sequence=self.last_sequence, headers=headers, body=body, time=as_time(now))
        self._kept[self.last_sequence] = _Kept(message, now, size)
        self._by_subject.setdefault(subject, {})[self.last_sequence] = None
        self._by_last_token.setdefault(_last_token(subject), set()).add(subject)
        self.bytes += size
        for consumer in self.consumers.values():
            consumer.stored(message, now)
        changed, self.changed = self.changed, anyio.Event()
        changed.set()
        return self.last_sequence

    def _discard_old(self, subject: str) -> None:
        limit = self.config["max_msgs_per_subject"]
        while 0 < limit < len(self._by_subject.get(subject, {})):
            self.remove(next(iter(self._by_subject[subject])))
        while self.config["discard"] == "old" and 0 < self.config["max_bytes"] < self.bytes:
            self.remove(next(iter(self._kept)))


def _discard(index: dict[str, set[str]], key: str, value: str) -> None:
    index[key].discard(value)
    if not index[key]:
        del index[key]


def _last_token(subject: str) -> str:
    return subject.rpartition(".")[2]


def _size(subject: str, body: bytes, headers: Mapping[str, str]) -> int:
    """What a file store counts: a record's head and checksum, and a length before headers."""
    block = block_size(headers)
    return 22 + len(subject.encode()) + (4 + block if block else 0) + len(body) + 8
