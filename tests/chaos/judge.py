"""What was broken of what is promised, in words; each promise is a law of its own."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import chain
from typing import Any, Final, cast

import msgspec

from contracts import subjects
from contracts.events import Completed, Failed, Started, event_name, is_terminal
from contracts.fleet import ControlDone, ControlRefused
from tests.chaos.evidence import Evidence, Written
from tests.chaos.kinds import Entry, Ran, Sum
from tests.chaos.leftovers import Left
from tests.checker import violations
from tests.simulation.attempts import holders

__all__ = ["LAWS", "judge", "sort_out"]

ONCE: Final = ("echo", "work", "block", "linger", "flaky", "fan")
"""Kinds that complete unless somebody cancels them."""


def judge(seen: Evidence) -> list[str]:
    """Every promise that was broken."""
    return [what for law in LAWS for what in law(seen)]


def sort_out(broken: list[str]) -> dict[str, int]:
    """How many jobs were lost, ended twice or have gaps; and everything else."""
    counts = Counter(_sort(what) for what in broken)
    return {sort: counts[sort] for sort in ("lost", "double ends", "gaps", "other")}


def logs(seen: Evidence) -> Iterator[str]:
    """One end a run, no gap, attempts in order, and a log for everything that was accepted."""
    found = {key: [written.event for written in log] for key, log in seen.logs.items()}
    yield from violations(found, expected=seen.accepted)


def writers(seen: Evidence) -> Iterator[str]:
    """An attempt's holder alone writes of it, and nothing once the next attempt has begun."""
    yield from holders(cast(Any, seen))


def outcomes(seen: Evidence) -> Iterator[str]:
    """Nothing fails here but what is made to, and nothing is cancelled but by command."""
    commands = set(seen.commands.values())
    for (kind, job_id), log in seen.logs.items():
        if kind not in ONCE or not log:
            continue
        end = log[-1].event
        if isinstance(end, Failed):
            yield f"{kind}.{job_id}: failed ({end.error.reason}, {end.error.type}: {end.error.message})"
        elif is_terminal(end) and not isinstance(end, Completed) and subjects.cancel(kind, job_id) not in commands:
            yield f"{kind}.{job_id}: cancelled, and nobody asked for it"


def executions(seen: Evidence) -> Iterator[str]:
    """No user code runs before its `started` is durable, nor twice in one attempt."""
    started = _started(seen)
    for entry in seen.ledger:
        if entry.what != "began" or not entry.attempt:
            continue
        opening = started.get((entry.kind, entry.job_id, entry.run, entry.attempt))
        if opening is None or opening.time > entry.time:
            yield f"{_name(entry)}: user code ran before its started was durable"
    begun = Counter((e.kind, e.job_id, e.run, e.attempt) for e in seen.ledger if e.what == "began")
    attempts = Counter((kind, job_id) for kind, job_id, _, _ in started)
    for (kind, job_id, run, attempt), times in begun.items():
        # A kind without a context cannot tell its attempts apart.
        allowed = 1 if attempt else attempts[kind, job_id]
        if times > allowed:
            yield f"{kind}.{job_id} run {run} attempt {attempt}: executed {times} times in {allowed} attempts"


def results(seen: Evidence) -> Iterator[str]:
    """What `completed` says is what user code returned, in that very attempt where it knows which."""
    ended = {entry.token: entry for entry in seen.ledger if entry.what == "ended"}
    for (kind, job_id), log in seen.logs.items():
        for event in (written.event for written in log):
            if isinstance(event, Completed) and kind != "fan":
                entry = ended.get(msgspec.json.decode(event.result, type=Ran).token)
                if entry is None or (entry.kind, entry.job_id) != (kind, job_id):
                    yield f"{kind}.{job_id}: completed with what no user code returned"
                elif entry.attempt and (entry.run, entry.attempt) != (event.run, event.attempt):
                    yield f"{kind}.{job_id}: attempt {event.attempt} completed with the result of {entry.attempt}"


def batches(seen: Evidence) -> Iterator[str]:
    """A batch counts its children as their logs have it."""
    for (kind, job_id), log in seen.logs.items():
        for event in (written.event for written in log):
            if kind == "fan" and isinstance(event, Completed):
                for child, outcome in msgspec.json.decode(event.result, type=Sum).outcomes.items():
                    name, _, child_id = child.partition(".")
                    children = seen.logs.get((name, child_id), [])
                    if not any(type(written.event).__name__.lower() == outcome for written in children):
                        yield f"fan.{job_id}: {child} is counted as {outcome}, and its log knows nothing"


def dead_letters(seen: Evidence) -> Iterator[str]:
    """What failed is in `DLQ`; nothing else is."""
    named = set()
    for (kind, job_id), log in seen.logs.items():
        for event in (written.event for written in log):
            if isinstance(event, Failed):
                named.add(event.dlq_sequence)
                letter = seen.letters.get(event.dlq_sequence)
                if letter is None or letter.subject != subjects.dead_letter(kind, job_id):
                    yield f"{kind}.{job_id}: failed, and DLQ:{event.dlq_sequence} is not its message"
    for sequence, letter in seen.letters.items():
        if sequence not in named:
            yield f"DLQ:{sequence} ({letter.subject}): no log says that it failed"


def answers(seen: Evidence) -> Iterator[str]:
    """Each command has exactly one answer."""
    given: dict[int, list[ControlDone | ControlRefused]] = defaultdict(list)
    for answer in seen.answers:
        given[answer.sequence].append(answer)
    for sequence, command in seen.commands.items():
        if len(given[sequence]) != 1:
            yield f"CONTROL:{sequence} ({command}) has {len(given[sequence])} answers"


def rest(seen: Evidence) -> Iterator[str]:
    """Nothing is left over."""
    for left in chain.from_iterable(seen.left.values()):
        lines = "".join(f"\n    {line}" for line in left.lines)
        yield f"{left} is left, {left.consumer}; {_became(left, seen)}{lines}"


def _became(left: Left, seen: Evidence) -> str:
    """What the logs know of a message that is left."""
    if left.stream == subjects.CONTROL:
        given = sum(answer.sequence == left.sequence for answer in seen.answers)
        return f"it has {given} answers"
    kind = left.subject.split(".")[1]
    log = seen.logs.get((kind, left.job_id))
    if not log:
        return f"{kind}.{left.job_id} has no log"
    end = log[-1].event
    return (
        f"the log of {kind}.{left.job_id} ends with {event_name(end)}, n {end.n} of run {end.run} attempt "
        f"{end.attempt}, by {end.gateway} at {end.time:%H:%M:%S.%f}, of {end.origin}"
    )


def observer(seen: Evidence) -> Iterator[str]:
    """Who followed `EVENTS` live saw every event, once and in order."""
    if seen.seen_live is None:
        return
    stored = sorted(written.sequence for log in seen.logs.values() for written in log)
    if seen.seen_live != stored:
        missing, extra = set(stored) - set(seen.seen_live), len(seen.seen_live) - len(set(seen.seen_live))
        yield f"the observer missed {len(missing)} events, saw {extra} twice, of {len(stored)}"


LAWS: Final = (
    logs, writers, outcomes, executions, results, batches, dead_letters, answers, rest, observer,
)  # fmt: skip


def _started(seen: Evidence) -> dict[tuple[str, str, int, int], Written]:
    return {
        (kind, job_id, written.event.run, written.event.attempt): written
        for (kind, job_id), log in seen.logs.items()
        for written in log
        if isinstance(written.event, Started)
    }


def _name(entry: Entry) -> str:
    return f"{entry.kind}.{entry.job_id} run {entry.run} attempt {entry.attempt}"


def _sort(what: str) -> str:
    if "has no log" in what or "has 0 terminal events" in what:
        return "lost"
    if re.search(r"has \d+ terminal events", what):
        return "double ends"
    return "gaps" if re.search(r": n is \[", what) else "other"
