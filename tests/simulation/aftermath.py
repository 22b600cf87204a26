"""Laws about what is left behind: dead letters, results of batches, answers to commands."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Final

import msgspec

from contracts import dlq, events, subjects
from contracts import headers as h
from contracts.events import Cancelled, Completed, Failed, Requeued
from contracts.fleet import ControlDone, ControlRefused
from tests.simulation.evidence import Evidence, Written
from tests.simulation.kinds import End, Group, Tallied

__all__ = ["answers", "batches", "dead_letters"]

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


def batches(seen: Evidence) -> Iterator[str]:
    """A batch's result counts its children rightly, as their logs had it when it ended."""
    for (kind, job_id), log in seen.logs.items():
        for written in log:
            if kind == "group" and isinstance(written.event, Completed):
                for what in _miscounts(seen, job_id, written, written.event):
                    yield f"group.{job_id}: {what}"


def _miscounts(seen: Evidence, job_id: str, written: Written, completed: Completed) -> Iterator[str]:
    result = msgspec.json.decode(completed.result, type=Tallied)
    group = msgspec.json.decode(seen.original(completed.origin).body, type=Group)
    if [end.job_id for end in result.ends] != [f"{member.kind}.{job_id}-{member.key}" for member in group.members]:
        yield "its result is not about its children"
    if result.counts != Counter(end.outcome for end in result.ends):
        yield f"counts {result.counts} of {[end.outcome for end in result.ends]}"
    for end in result.ends:
        if not _is_true(seen, end, f"group.{job_id}", before=written.sequence):
            yield f"{end.job_id} is counted as {end.outcome} (run {end.run}, n {end.n}), and its log knows nothing"


def _is_true(seen: Evidence, end: End, batch: str, *, before: int) -> bool:
    kind, _, job_id = end.job_id.partition(".")
    if end.outcome == "refused":
        # A child whose log names this batch lives, whatever message under its id was refused.
        lives = any(written.event.parent == batch for written in seen.log(kind, job_id))
        return not lives and any(letter.subject == subjects.dead_letter(kind, job_id) for letter in seen.letters)
    return any(
        (written.event.run, written.event.n, events.event_name(written.event)) == (end.run, end.n, end.outcome)
        for written in seen.log(kind, job_id)
        if written.sequence < before
    )


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


def _is_done(seen: Evidence, done: ControlDone) -> bool:
    match done.command.split("."):
        case ["control", "cancel", kind, job_id]:
            return any(isinstance(written.event, Cancelled) for written in seen.log(kind, job_id))
        case ["control", "replay", sequence]:
            runs = [
                written.event
                for log in seen.logs.values()
                for written in log
                if isinstance(written.event, Requeued) and written.event.dlq_sequence == int(sequence)
            ]
            return len(runs) == 1
    return True
