"""A job log: append by compare-and-set, read from the leader.

`append(event, after=sequence)` is the one way to write a log. The sequence is the fencing token: where another write
came first it is refused, and the caller decides anew with the log that it is given. Where nobody knows (no answer, a
write in flight) the leader is asked, and the very same bytes are sent again.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from contracts import events, subjects
from contracts import headers as h
from contracts.cloudevents import binary_headers
from contracts.events import Event, LogEvent, Requeued, Started
from infra.bus.base import Bus, NoAnswer, Outgoing, PubAck, Stored, Trimmed, WrongSequence
from workers.core.log import EMPTY, LogView
from workers.runtime.patience import patiently
from workers.runtime.pressure import Pressure

__all__ = ["Journal", "Write", "Written"]


class Written(Struct, frozen=True):
    """The event is durable."""

    sequence: int
    event_id: str
    """Its `ce-id`."""


class Write(Struct, frozen=True):
    """An event on its way into its log."""

    event: LogEvent
    after: int
    event_id: str
    subject: str
    body: bytes
    headers: dict[str, str]


class Journal:
    """Writes and reads job logs for one process.

    `nonce` is this process's own: every event that it writes has an id beginning with it, so that `mine` needs no
    memory.
    """

    def __init__(self, bus: Bus, *, nonce: str, source: str, pressure: Pressure | None = None) -> None:
        self._bus = bus
        self._nonce = nonce
        self._gateway = source
        self._pressure = pressure
        self._written = 0

    def prepare(self, event: LogEvent, *, after: int, traceparent: str | None = None) -> Write:
        """The event as it is to stand after the log's event `after`; each time it is sent it is sent in these bytes."""
        name = events.event_name(event)
        event_id = self._next_id()
        headers = self._headers(event, name, event_id, after, traceparent)
        return Write(
            event, after, event_id, subjects.event(event.kind, name, event.job_id), events.encode(event), headers
        )

    async def append(self, event: LogEvent, *, after: int, traceparent: str | None = None) -> Written | LogView:
        """Make the event durable after the log's event `after`, or return the log that stands in its way.

        Waits and repeats for as long as it is let: whoever calls it gives up with the lease.
        """
        return await self.finish(self.prepare(event, after=after, traceparent=traceparent))

    async def append_many(self, writes: Sequence[Write]) -> list[Written | None]:
        """Send events of many logs together, once. None stands for a write of which `finish` must see what became."""
        outgoing = [Outgoing(write.subject, write.body, write.headers) for write in writes]
        answers = await self._bus.publish_many(outgoing)
        found = [
            Written(answer.sequence, write.event_id) if isinstance(answer, PubAck) else None
            for answer, write in zip(answers, writes, strict=True)
        ]
        if self._pressure is not None and any(found):
            self._pressure.wrote("events_full")
        return found

    async def finish(self, write: Write) -> Written | LogView:
        """As `append`, of a write that may have been sent already."""

        async def once() -> Written | LogView:
            try:
                acknowledged = await self._bus.publish(write.subject, write.body, write.headers)
                return Written(acknowledged.sequence, write.event_id)
            except (WrongSequence, NoAnswer):
                answer = await self._who_won(write)
                if answer is None:
                    raise
                return answer

        if self._pressure is None:
            return await patiently(once, what=write.subject)
        done = await patiently(once, what=write.subject, when_full=self._pressure.events_full)
        self._pressure.wrote("events_full")
        return done

    async def read(self, kind: str, job_id: str) -> LogView:
        """The log's last event, and its last `started` or `requeued`, from the leader. Waits for the bus."""
        tail = await self._last(subjects.job_log(kind, job_id))
        if tail is None:
            return EMPTY
        return await self._view(tail)

    async def requeued(self, kind: str, job_id: str) -> tuple[int, Requeued] | None:
        """The log's last `requeued` and its sequence."""
        found = await self._last(subjects.event(kind, "requeued", job_id))
        if found is None:
            return None
        event = events.decode(found.body)
        assert isinstance(event, Requeued)
        return found.sequence, event

    async def exists(self, stream: str, sequence: int) -> bool:
        """Whether a message is still in its stream."""
        return (
            await patiently(lambda: self._bus.get(stream, sequence), what=f"a look at {stream}:{sequence}") is not None
        )

    async def at(self, sequence: int) -> Event | None:
        """One event by its sequence; None where it is no longer kept."""
        what = f"reading {subjects.EVENTS}:{sequence}"
        found = await patiently(lambda: self._bus.get(subjects.EVENTS, sequence), what=what)
        return None if found is None else events.decode(found.body)

    async def newest(self) -> int:
        """Sequence of the newest event of any log."""
        found = await self._last("orchestration.*.*.*")
        return 0 if found is None else found.sequence

    async def _who_won(self, write: Write) -> Written | LogView | None:
        """Ours, another's, or (None) nobody yet."""
        tail = await self._last(subjects.job_log(write.event.kind, write.event.job_id))
        if tail is None:
            # A log that was expected to go on and is gone was forgotten by age; an empty one may be begun.
            return None if write.after == 0 else EMPTY
        if tail.headers.get(h.CE_ID) == write.event_id:
            return Written(tail.sequence, write.event_id)
        if tail.sequence == write.after:
            return None
        return await self._view(tail)

    async def _view(self, tail: Stored) -> LogView:
        last = events.decode(tail.body)
        return LogView(
            sequence=tail.sequence,
            tail=last,
            opening=await self._opening(last),
            mine=tail.headers.get(h.CE_ID, "").startswith(f"{self._nonce}."),
        )

    async def _opening(self, last: Event) -> Started | Requeued | None:
        if isinstance(last, (Started, Requeued)):
            return last
        for name in ("started", "requeued"):
            found = await self._last(subjects.event(last.kind, name, last.job_id))
            if found is not None:
                opening = events.decode(found.body)
                assert isinstance(opening, (Started, Requeued))
                return opening
        return None

    async def _last(self, subject: str) -> Stored | None:
        return await patiently(lambda: self._bus.last(subjects.EVENTS, subject), what=f"reading {subject}")

    def _next_id(self) -> str:
        self._written += 1
        return f"{self._nonce}.{self._written}"

    def _headers(
        self, event: LogEvent, name: str, event_id: str, after: int, traceparent: str | None
    ) -> dict[str, str]:
        headers = Trimmed(
            binary_headers(
                event_type=events.event_type(event.kind, name),
                gateway=self._gateway,
                event_id=event_id,
                subject=event.job_id,
                time=event.time,
            )
        )
        headers[h.CE_DATASCHEMA] = f"urn:jetray:schema:{event.kind}.{name}.v1"
        headers[h.EXPECTED_SEQUENCE] = str(after)
        headers[h.EXPECTED_FILTER] = subjects.job_log(event.kind, event.job_id)
        if traceparent is not None:
            headers[h.TRACEPARENT] = traceparent
        return headers
