"""Races on job logs: eight writers on one log, each with a mind of its own, and a judge of what came of it."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import anyio
from msgspec import Raw

from contracts import events, subjects
from contracts import headers as h
from contracts.errors import ErrorInfo
from contracts.events import (
    Asked,
    Cancelled,
    Completed,
    DeliveryRef,
    Event,
    Failed,
    LogEvent,
    Progress,
    Requeued,
    Retrying,
    Spent,
    Started,
    is_terminal,
)
from infra.bus.base import Bus, Stored
from tests.checker import read_all, violations
from workers.core.log import LogView
from workers.runtime.cancel import Canceller, Subject
from workers.runtime.journal import Journal, Written
from workers.runtime.patience import patiently

__all__ = ["KIND", "Figures", "race"]

KIND: Final = "echo"
NOW: Final = datetime(2026, 11, 22, 5, 0, tzinfo=UTC)
ERROR: Final = ErrorInfo(reason="user", type="ValueError", message="no")
LONGEST: Final = 6
"""Events after which everybody who may end a log tries to."""

Role = Callable[["Writer", LogView], LogEvent | None]


@dataclass(frozen=True, slots=True)
class Claim:
    """What a writer was told of one append."""

    event: Event
    after: int
    nonce: str
    answer: Written | LogView


@dataclass(slots=True)
class Figures:
    """What many races came to."""

    races: int = 0
    places: int = 0
    """Events that were written: each is a place that somebody won."""
    contested: int = 0
    """Places that more than one writer wanted."""
    refused: int = 0
    untold: int = 0
    """Places whose winner got no answer, and was shown a log that went on after it."""
    ends: Counter[str] = field(default_factory=Counter)
    winners: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    def __add__(self, other: Figures) -> Figures:
        return Figures(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    def __str__(self) -> str:
        won = ", ".join(f"{name} {count}" for name, count in sorted(self.winners.items()))
        ends = ", ".join(f"{name} {count}" for name, count in sorted(self.ends.items()))
        return (
            f"{self.races} races, {self.places} places ({won}), {self.contested} of them contested, "
            f"{self.refused} appends refused, {self.untold} winners untold; ends: {ends}; {len(self.broken)} broken"
        )


class _Log:
    """One log that is raced for."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.claims: list[Claim] = []
        self._longer = anyio.Event()
        self._length: float = 0

    def note(self, claim: Claim) -> None:
        self.claims.append(claim)
        if isinstance(claim.answer, Written):
            self._length = math.inf if _is_over(claim.event) else max(self._length, claim.event.n)
            self._longer.set()
            self._longer = anyio.Event()

    async def reaches(self, length: int) -> None:
        """Return once it is so long, or over."""
        while self._length < length:
            await self._longer.wait()


class _Witness(Journal):
    """A journal that remembers what it was told."""

    def __init__(self, bus: Bus, log: _Log, nonce: str) -> None:
        super().__init__(bus, nonce=nonce, source=nonce)
        self._log = log

    async def append(self, event: LogEvent, *, after: int, traceparent: str | None = None) -> Written | LogView:
        answer = await super().append(event, after=after, traceparent=traceparent)
        self._log.note(Claim(event, after, self._nonce, answer))
        return answer


class Writer:
    """One of the eight."""

    def __init__(self, bus: Bus, log: _Log, name: str, begins: int) -> None:
        self.name = name
        self.job_id = log.job_id
        self.journal = _Witness(bus, log, name)
        self._log = log
        self._begins = begins

    async def write(self, role: Role) -> None:
        """Append what the role makes of the log, again and again, until nobody may append anything."""
        await self._log.reaches(self._begins)
        view = await self.journal.read(KIND, self.job_id)
        while not _is_over(view.tail):
            event = role(self, view)
            answer = None if event is None else await self.journal.append(event, after=view.sequence)
            view = answer if isinstance(answer, LogView) else await self.journal.read(KIND, self.job_id)

    async def cancels(self) -> None:
        """Cancel the log, and once more if it goes into another run."""
        canceller = Canceller(self.journal, gateway=self.name, now=lambda: NOW)
        await self._log.reaches(self._begins)
        while True:
            subject = Subject(kind=KIND, job_id=self.job_id, batch=False, origin="CONTROL:1")
            end = (await canceller.cancel(subject, Asked(requested_by=self.name))).tail
            assert end is not None, "what was cancelled has a log"
            if _is_over(end):
                return
            await self._log.reaches(end.n + 1)

    def next(self, kind: type[Any], view: LogView, *, attempt: int | None = None, run: int = 1, **more: Any) -> Any:
        """The event that would stand after the log's last."""
        tail = view.tail
        return kind(
            kind=KIND,
            job_id=self.job_id,
            n=1 if tail is None else tail.n + 1,
            run=run if tail is None else max(run, tail.run),
            attempt=attempt or (1 if tail is None else tail.attempt),
            time=NOW,
            gateway=self.name,
            origin="JOBS:1",
            **more,
        )


def starts(writer: Writer, view: LogView) -> LogEvent | None:
    """The first attempt, a takeover, or the first attempt of another run."""
    if view.tail is not None and is_terminal(view.tail):
        return None
    before = view.opening.attempt if isinstance(view.opening, Started) else 0
    return writer.next(
        Started,
        view,
        attempt=before + 1,
        input_sha256="0" * 64,
        delivery=DeliveryRef(1, 1),
        actor=None,
        waited_ms=0,
        deadline=NOW + timedelta(minutes=10),
        spent=Spent(),
    )


def reports(writer: Writer, view: LogView) -> LogEvent | None:
    """Progress; and the other of the two that replay a failure."""
    if isinstance(view.tail, Failed):
        return replays(writer, view)
    return writer.next(Progress, view, message=writer.name) if _under_way(view) else None


def gives_back(writer: Writer, view: LogView) -> LogEvent | None:
    """An attempt that is to be made again."""
    if not _under_way(view):
        return None
    return writer.next(Retrying, view, error=ERROR, delay_ms=0, next_attempt=2, spent=Spent(), moved=False)


def completes(writer: Writer, view: LogView) -> LogEvent | None:
    """A good end."""
    return writer.next(Completed, view, result=Raw(b"1"), artifacts=[], duration_ms=5) if _under_way(view) else None


def fails(writer: Writer, view: LogView) -> LogEvent | None:
    """A bad end."""
    return writer.next(Failed, view, error=ERROR, attempts=1, dlq_sequence=1) if _under_way(view) else None


def replays(writer: Writer, view: LogView) -> LogEvent | None:
    """Another run, after the first one's failure."""
    if not isinstance(view.tail, Failed) or view.tail.run > 1:
        return None
    return writer.next(Requeued, view, run=2, attempt=1, dlq_sequence=1, input_sha256="0" * 64)


ROLES: Final[Sequence[Role]] = (starts, starts, reports, gives_back, completes, fails, replays)
"""With the one who cancels, eight."""
_END: Final = (completes, fails)


def _under_way(view: LogView) -> bool:
    return isinstance(view.tail, (Started, Progress))


def _is_over(tail: Event | None) -> bool:
    return isinstance(tail, (Completed, Cancelled)) or (isinstance(tail, Failed) and tail.run > 1)


async def race(buses: Sequence[Bus], names: Iterable[str], *, at_once: int = 4, within_s: float = 60.0) -> Figures:
    """Race for a log of each name, `at_once` of them at a time; writers share `buses` evenly. Judged at the end.

    A race that is not over after `within_s` is judged as it then is.
    """
    figures, room, logs = Figures(), anyio.Semaphore(at_once), [_Log(name) for name in names]

    async def one(log: _Log) -> None:
        async with room:
            with anyio.move_on_after(within_s) as limit:
                await _race(buses, log)
            if limit.cancelled_caught:
                figures.broken.append(f"{log.job_id}: not over after {within_s} s")

    async with anyio.create_task_group() as group:
        for log in logs:
            group.start_soon(one, log)
    stored = await _stored(buses[0])
    for log in logs:
        _judge(log, stored[log.job_id], figures)
    return figures


async def _race(buses: Sequence[Bus], log: _Log) -> None:
    # Seeded by its name: who may end it, and when, is the same each time. Who comes first is not.
    rng = random.Random(log.job_id)
    async with anyio.create_task_group() as group:
        for index, role in enumerate(ROLES):
            begins = rng.randint(1, LONGEST) if role in _END else 0
            writer = Writer(buses[index % len(buses)], log, f"{log.job_id}-w{index}", begins)
            group.start_soon(writer.write, role)
        canceller = Writer(buses[-1], log, f"{log.job_id}-w7", rng.randint(0, LONGEST))
        group.start_soon(canceller.cancels)


async def _stored(bus: Bus) -> dict[str, list[Stored]]:
    found: dict[str, list[Stored]] = defaultdict(list)
    told = f"orchestration.{KIND}.*.*"
    for message in await patiently(lambda: read_all(bus, subjects.EVENTS, told), what=told):
        found[message.subject.rsplit(".", 1)[1]].append(message)
    return found


def _judge(log: _Log, stored: Sequence[Stored], figures: Figures) -> None:
    found = [events.decode(message.body) for message in stored]
    figures.races += 1
    figures.places += len(found)
    figures.winners.update(events.event_name(event) for event in found)
    figures.refused += sum(isinstance(claim.answer, LogView) for claim in log.claims)
    wanted = Counter(claim.after for claim in log.claims)
    told = {claim.answer.sequence for claim in log.claims if isinstance(claim.answer, Written)}
    figures.untold += sum(message.sequence not in told for message in stored)
    figures.contested += sum(count > 1 for count in wanted.values())
    if found:
        figures.ends[events.event_name(found[-1])] += 1
    broken = violations({(KIND, log.job_id): found})
    broken += [f"{KIND}.{log.job_id}: {what}" for what in _contradictions(log.claims, stored, found)]
    figures.broken += broken


def _contradictions(claims: Sequence[Claim], stored: Sequence[Stored], found: Sequence[Event]) -> Iterable[str]:
    """What writers were told that is not so."""
    places = {message.sequence: place for place, message in enumerate(stored)}
    won: Counter[int] = Counter()
    for claim in claims:
        name = events.event_name(claim.event)
        if isinstance(claim.answer, Written):
            place = places.get(claim.answer.sequence)
            won[claim.answer.sequence] += 1
            if place is None or found[place] != claim.event:
                yield f"{claim.nonce} was told that its {name} is {claim.answer.sequence}, and it is not"
            elif not stored[place].headers[h.CE_ID].startswith(f"{claim.nonce}."):
                yield f"{claim.answer.sequence} has the id of another than {claim.nonce}"
            elif (stored[place - 1].sequence if place else 0) != claim.after:
                yield f"{claim.nonce} wrote {name} after {claim.after}, and it stands after another"
        else:
            yield from _untrue(claim, places, found)
    for place, message in enumerate(stored):
        if won[message.sequence] != 1 and not (won[message.sequence] == 0 and _untold(claims, found[place], message)):
            yield f"{won[message.sequence]} writers believe that they wrote {message.sequence}"


def _untold(claims: Sequence[Claim], event: Event, message: Stored) -> bool:
    """Whether its writer was never told of it, the answer being lost, and was shown a log that goes on after it."""
    return any(
        claim.event == event and isinstance(claim.answer, LogView) and claim.answer.sequence > message.sequence
        for claim in claims
    )


def _untrue(claim: Claim, places: dict[int, int], found: Sequence[Event]) -> Iterable[str]:
    """What a loser was shown must be the log, and must go beyond what it knew."""
    view = claim.answer
    assert isinstance(view, LogView)
    place = places.get(view.sequence)
    if place is None or found[place] != view.tail or view.mine:
        yield f"{claim.nonce} was shown {view.tail} at {view.sequence}, and the log has another"
    elif view.sequence <= claim.after:
        yield f"{claim.nonce} lost after {claim.after}, and was shown {view.sequence}"
    elif view.opening is not None and view.opening not in found:
        yield f"{claim.nonce} was shown an opening that is not in the log"
