"""Laws about what is left behind: dead letters, moved messages, and answers to commands."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Final

import msgspec

from contracts import dlq, subjects
from contracts import headers as h
from contracts.events import Cancelled, Failed, Requeued, Retrying, is_terminal
from contracts.fleet import ControlDone, ControlRefused
from tests.simulation.evidence import Evidence, Key
from tests.simulation.kinds import KINDS

__all__ = ["answers", "dead_letters", "moves"]

_answers: Final[msgspec.json.Decoder[ControlDone | ControlRefused]] = msgspec.json.Decoder(ControlDone | ControlRefused)


def dead_letters(seen: Evidence) -> Iterator[str]:
    """What failed is in `DLQ`, once for each reason, byte for byte."""
    by_sequence = {letter.sequence: letter for letter in seen.letters}
    for (kind, job_id), log in seen.logs.items():
        for written in log:
            if isinstance(written.event, Failed):
                letter = by_sequence.get(written.event.dlq_sequence)
                if letter is None or letter.subject != subjects.dead_letter(kind, job_id):
                    yield f"{kind}.{job_id}: failed, and DLQ:{written.event.dlq_sequence} is not its message"
    for letter in seen.letters:
        original = seen.original(letter.headers[h.ORIGIN])
        if letter.body != original.body or dlq.original_headers(letter.headers) != dict(original.headers):
            yield f"DLQ:{letter.sequence}: not as {letter.headers[h.ORIGIN]} was"
    for why, times in Counter((letter.headers[h.ORIGIN], letter.headers[h.REASON]) for letter in seen.letters).items():
        if times > 1:
            yield f"DLQ holds {why[0]} {times} times for {why[1]}"


def moves(seen: Evidence) -> Iterator[str]:
    """A message that is moved is stored once at the tail of its queue, as the same job's."""
    copies: Counter[Key] = Counter()
    for message in seen.messages:
        origin, headers = message.stored.headers.get(h.ORIGIN), message.stored.headers
        if origin is not None:
            copies[message.kind, message.job_id] += 1
            original = seen.original(origin)
            if (original.body, original.headers.get(h.PARENT)) != (message.stored.body, headers.get(h.PARENT)):
                yield f"{message.origin}: not as {origin} was, of which it is the copy"
    for (kind, job_id), times in copies.items():
        moved = sum(isinstance(it.event, Retrying) and it.event.moved for it in seen.log(kind, job_id))
        if times > moved:
            yield f"{kind}.{job_id}: moved {moved} times, and published anew {times} times"


def answers(seen: Evidence) -> Iterator[str]:
    """Each command has exactly one answer, and what is said to be done is done."""
    given: dict[int, list[ControlDone | ControlRefused]] = defaultdict(list)
    for message in seen.world.server.streams[subjects.WORKERS].messages("workers.control.*.*"):
        answer = _answers.decode(message.body)
        given[answer.sequence].append(answer)
    for sequence, command in seen.accepted[subjects.CONTROL].items():
        if len(given[sequence]) != 1:
            yield f"CONTROL:{sequence} ({command.subject}) has {len(given[sequence])} answers"
        for answer in given[sequence]:
            if isinstance(answer, ControlDone) and not _is_done(seen, answer):
                yield f"CONTROL:{sequence} ({command.subject}) is said to be done ({answer.detail}), and is not"
            if isinstance(answer, ControlRefused) and not _is_beyond(seen, answer):
                yield f"CONTROL:{sequence} ({command.subject}) is refused ({answer.reason}), and could be done"


def _is_done(seen: Evidence, done: ControlDone) -> bool:
    match done.command.split("."):
        case ["control", "cancel", kind, job_id]:
            # A batch ends as failed where its dead letter was written before it was asked to cancel.
            log = seen.log(kind, job_id)
            return any(isinstance(written.event, Cancelled) or written.event.cancelling for written in log)
        case ["control", "replay", sequence]:
            runs = [
                written.event
                for log in seen.logs.values()
                for written in log
                if isinstance(written.event, Requeued) and written.event.dlq_sequence == int(sequence)
            ]
            return len(runs) == 1
    return True


def _is_beyond(seen: Evidence, refused: ControlRefused) -> bool:
    """Whether a cancel that was refused names a job that ended by itself, or nobody's kind, or nothing."""
    match refused.command.split("."):
        case ["control", "cancel", kind, job_id] if kind in KINDS:
            log = seen.log(kind, job_id)
            # What was cancelled may run again with its batch: then it was in an earlier run.
            ended = any(is_terminal(it.event) and not isinstance(it.event, Cancelled) for it in log)
            return ended or any(isinstance(it.event, Requeued) for it in log)
    return True
