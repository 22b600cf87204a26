"""What the logs, the dead letters, the answers and the ledger must agree on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final

import msgspec

from contracts import dlq, events, inbound, subjects
from contracts import headers as h
from contracts.events import (
    Cancelled,
    Completed,
    Event,
    Failed,
    Progress,
    Requeued,
    Retrying,
    Started,
    is_terminal,
)
from contracts.fleet import ControlDone, ControlRefused
from infra.bus.base import Stored
from tests.checker import violations
from tests.simulation.kinds import KINDS, Group, Tallied
from tests.simulation.ledger import Entry
from tests.simulation.world import World

__all__ = ["judge"]

Key = tuple[str, str]
"""Kind and job id."""

LIMITS: Final = inbound.Limits()
_answers: msgspec.json.Decoder[ControlDone | ControlRefused] = msgspec.json.Decoder(ControlDone | ControlRefused)


class _Written(msgspec.Struct, frozen=True):
    """An event, where it stands, and which gateway wrote it."""

    event: Event
    sequence: int
    nonce: str


class _Message(msgspec.Struct, frozen=True):
    """A message that JetStream accepted for a kind."""

    stored: Stored
    kind: str
    job_id: str
    digest: str | None
    """None where it does not decode."""
    origin: str
    parent: str | None


def judge(world: World) -> list[str]:
    """What was broken, in words; empty where every promise was kept."""
    return _Judge(world).verdict()


class _Judge:
    def __init__(self, world: World) -> None:
        self._world = world
        self._logs: dict[Key, list[_Written]] = defaultdict(list)
        for message in world.server.streams[subjects.EVENTS].messages():
            event = events.decode(message.body)
            nonce = message.headers[h.CE_ID].partition(".")[0]
            self._logs[event.kind, event.job_id].append(_Written(event, message.sequence, nonce))
        self._letters = [*world.server.streams[subjects.DLQ].messages()]
        self._messages = [_read(stored) for stored in world.server.accepted[subjects.JOBS].values()]

    def verdict(self) -> list[str]:
        logs = {key: [written.event for written in log] for key, log in self._logs.items()}
        broken = [*self._world.troubles, *violations(logs)]
        for look in (
            self._nothing_accepted_is_missing,
            self._refusals_left_the_log_alone,
            self._attempts_follow_each_other,
            self._user_code_ran_by_leave,
            self._results_are_real,
            self._leases_held,
            self._dead_letters_are_true,
            self._batches_count_rightly,
            self._commands_were_answered,
            self._nobody_holds_anything,
        ):
            broken += look()
        return broken

    # What goes in comes out

    def _nothing_accepted_is_missing(self) -> Iterator[str]:
        for message in self._messages:
            log = self._logs.get((message.kind, message.job_id), [])
            if self._was_refused(message):
                continue
            what = f"JOBS:{message.stored.sequence} ({message.kind}.{message.job_id})"
            if not log or not is_terminal(log[-1].event):
                yield f"{what}: accepted, and has no end"
            elif message.digest is not None and not _knows(log, message.digest):
                yield f"{what}: another input under its id, and it was not refused"

    def _was_refused(self, message: _Message) -> bool:
        reasons = ("id_conflict",) if message.digest is not None else ("decode", "too_large")
        origin = f"{subjects.JOBS}:{message.stored.sequence}"
        return any(
            letter.headers[h.ORIGIN] == origin and letter.headers[h.REASON] in reasons for letter in self._letters
        ) and not any(written.event.origin == origin for written in self._logs.get((message.kind, message.job_id), ()))

    def _refusals_left_the_log_alone(self) -> Iterator[str]:
        for letter in self._letters:
            key = letter.headers[h.KIND], letter.headers[h.JOB_ID]
            if letter.headers[h.REASON] != "id_conflict":
                continue
            if any(written.event.origin == letter.headers[h.ORIGIN] for written in self._logs.get(key, ())):
                yield f"{key[0]}.{key[1]}: {letter.headers[h.ORIGIN]} was refused, and stands in the log"
        for (kind, job_id), log in self._logs.items():
            digests = {
                written.event.input_sha256 for written in log if isinstance(written.event, (Started, Requeued))
            } - {""}
            if len(digests) > 1:
                yield f"{kind}.{job_id}: {len(digests)} inputs in one log"

    # Attempts

    def _attempts_follow_each_other(self) -> Iterator[str]:
        for (kind, job_id), log in self._logs.items():
            opened: dict[tuple[int, int], str] = {}
            newest = (1, 1)
            for written in log:
                event = written.event
                # A `requeued` bears the attempt of the run before.
                at = event.run, 0 if isinstance(event, Requeued) else event.attempt
                if isinstance(event, Started):
                    opened[at] = written.nonce
                if at < newest:
                    yield f"{kind}.{job_id}: n {event.n} is of attempt {at}, after {newest} had begun"
                newest = max(newest, at)
                if _is_its_holders(event) and opened.get(at) != written.nonce:
                    yield f"{kind}.{job_id}: n {event.n} was not written by the holder of attempt {at}"

    def _user_code_ran_by_leave(self) -> Iterator[str]:
        for entry in self._world.ledger.entries:
            started = self._started(entry)
            name = f"{entry.kind}.{entry.job_id} run {entry.run} attempt {entry.attempt}"
            if started is None or started.sequence > entry.durable:
                yield f"{name}: user code ran before its started was durable"
            elif started.nonce != entry.nonce:
                yield f"{name}: user code ran in a gateway that does not hold it"
        ran: dict[tuple[str, str, int, int], int] = defaultdict(int)
        for entry in self._world.ledger.entries:
            ran[entry.key] += 1
        for key, times in ran.items():
            if times > 1:
                yield f"{key}: one attempt was executed {times} times"

    def _results_are_real(self) -> Iterator[str]:
        entries = {entry.key: entry for entry in self._world.ledger.entries}
        for (kind, job_id), log in self._logs.items():
            if KINDS[kind].is_batch:
                continue
            for written in log:
                event = written.event
                if isinstance(event, Completed):
                    entry = entries.get((kind, job_id, event.run, event.attempt))
                    if entry is None or entry.how != "returned" or entry.result != bytes(event.result):
                        yield f"{kind}.{job_id}: completed in run {event.run}, and no user code returned that"

    def _leases_held(self) -> Iterator[str]:
        """Two attempts of one job never run at once, unless a frozen process or the server itself is to blame."""
        by_job: dict[Key, list[Entry]] = defaultdict(list)
        for entry in self._world.ledger.entries:
            by_job[entry.kind, entry.job_id].append(entry)
        for (kind, job_id), entries in by_job.items():
            for earlier, later in pairwise(entries):
                if earlier.overlaps(later) and not self._is_excused(earlier, later):
                    yield (
                        f"{kind}.{job_id}: attempts {earlier.attempt} (from {earlier.began:.3f} to {earlier.ended}) "
                        f"and {later.attempt} (from {later.began:.3f}) ran at once"
                    )

    def _is_excused(self, earlier: Entry, later: Entry) -> bool:
        froze = any(
            incarnation.freezes for incarnation in self._world.incarnations if incarnation.nonce == earlier.nonce
        )
        started = self._started(later)
        assert started is not None
        assert isinstance(started.event, Started)
        return froze or started.event.delivery.sequence in self._world.strikes.twice

    def _started(self, entry: Entry) -> _Written | None:
        for written in self._logs.get((entry.kind, entry.job_id), ()):
            event = written.event
            if isinstance(event, Started) and (event.run, event.attempt) == (entry.run, entry.attempt):
                return written
        return None

    # What is left behind

    def _dead_letters_are_true(self) -> Iterator[str]:
        by_sequence = {letter.sequence: letter for letter in self._letters}
        for (kind, job_id), log in self._logs.items():
            for written in log:
                if not isinstance(written.event, Failed):
                    continue
                letter = by_sequence.get(written.event.dlq_sequence)
                if letter is None or letter.subject != subjects.dead_letter(kind, job_id):
                    yield f"{kind}.{job_id}: failed, and DLQ:{written.event.dlq_sequence} is not its message"
        for letter in self._letters:
            stream, _, sequence = letter.headers[h.ORIGIN].partition(":")
            original = self._world.server.accepted[stream][int(sequence)]
            if letter.body != original.body or dlq.original_headers(letter.headers) != dict(original.headers):
                yield f"DLQ:{letter.sequence}: not as {letter.headers[h.ORIGIN]} was"

    def _batches_count_rightly(self) -> Iterator[str]:
        for (kind, job_id), log in self._logs.items():
            for written in log:
                if kind == "group" and isinstance(written.event, Completed):
                    for what in self._miscounts(job_id, written):
                        yield f"group.{job_id}: {what}"

    def _miscounts(self, job_id: str, completed: _Written) -> Iterator[str]:
        assert isinstance(completed.event, Completed)
        result = msgspec.json.decode(completed.event.result, type=Tallied)
        members = self._group(completed).members
        if [end.job_id for end in result.ends] != [f"{member.kind}.{job_id}-{member.key}" for member in members]:
            yield "its result is not about its children"
        for outcome in {end.outcome for end in result.ends} | set(result.counts):
            if result.counts.get(outcome) != sum(end.outcome == outcome for end in result.ends):
                yield f"counts {result.counts} of {[end.outcome for end in result.ends]}"
        for end in result.ends:
            kind, _, child_id = end.job_id.partition(".")
            log = self._logs.get((kind, child_id), [])
            if end.outcome == "refused":
                if not any(letter.subject == subjects.dead_letter(kind, child_id) for letter in self._letters):
                    yield f"{end.job_id} is counted as refused, and was not"
                continue
            counted = [
                written
                for written in log
                if (written.event.run, written.event.n) == (end.run, end.n)
                and events.event_name(written.event) == end.outcome
                and written.sequence < completed.sequence
            ]
            if not counted:
                yield f"{end.job_id} is counted as {end.outcome} in run {end.run}, n {end.n}, and its log knows nothing"

    def _group(self, completed: _Written) -> Group:
        stream, _, sequence = completed.event.origin.partition(":")
        return msgspec.json.decode(self._world.server.accepted[stream][int(sequence)].body, type=Group)

    def _commands_were_answered(self) -> Iterator[str]:
        answers: dict[int, list[ControlDone | ControlRefused]] = defaultdict(list)
        for message in self._world.server.streams[subjects.WORKERS].messages("workers.control.*.*"):
            answer = _answers.decode(message.body)
            answers[answer.sequence].append(answer)
        for sequence, command in self._world.server.accepted[subjects.CONTROL].items():
            given = answers.get(sequence, [])
            if len(given) != 1:
                yield f"CONTROL:{sequence} ({command.subject}) has {len(given)} answers"
            elif isinstance(given[0], ControlDone):
                yield from (f"CONTROL:{sequence} ({command.subject}): {what}" for what in self._not_done(given[0]))

    def _not_done(self, done: ControlDone) -> Iterable[str]:
        tokens = done.command.split(".")
        if tokens[1] == "cancel":
            log = self._logs.get((tokens[2], tokens[3]), [])
            if not any(isinstance(written.event, Cancelled) for written in log):
                yield f"done ({done.detail}), and nothing is cancelled"
        if tokens[1] == "replay":
            replayed = [
                written
                for log in self._logs.values()
                for written in log
                if isinstance(written.event, Requeued) and written.event.dlq_sequence == int(tokens[2])
            ]
            if len(replayed) != 1:
                yield f"done ({done.detail}), and its dead letter opened {len(replayed)} runs"

    def _nobody_holds_anything(self) -> list[str]:
        return [f"at rest: {what}" for what in self._world.unrest() if not self._world.troubles]


def _read(stored: Stored) -> _Message:
    kind = stored.subject.split(".")[1]
    message = inbound.Message(
        subject=stored.subject,
        headers=stored.headers,
        body=stored.body,
        stream=subjects.JOBS,
        sequence=stored.sequence,
    )
    read = inbound.read(message, KINDS[kind].spec, LIMITS, foreign=False)
    digest = read.input_sha256 if isinstance(read, inbound.Accepted) else None
    return _Message(stored, kind, read.job_id, digest, read.origin, read.parent)


def _knows(log: list[_Written], digest: str) -> bool:
    """Whether the log is about that input. One without an opening, cancelled before it began, is about any."""
    digests = [written.event.input_sha256 for written in log if isinstance(written.event, (Started, Requeued))]
    return not digests or digest in digests


def _is_its_holders(event: Event) -> bool:
    """Whether only who holds the attempt may write such an event."""
    if isinstance(event, Progress):
        return event.step != "cancelling"
    return isinstance(event, (Completed, Retrying))
