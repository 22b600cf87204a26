"""Laws about batches: what they count, what they leave behind, and what a replay of one runs again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

from contracts import events, joins, subjects
from contracts.events import Cancelled, Completed, Event, Failed, Requeued, Started, is_terminal
from tests.simulation.evidence import Evidence, Key, Written
from tests.simulation.kinds import End, Group, Tallied

__all__ = ["cancels", "endings", "reruns", "results_of_batches"]


def results_of_batches(seen: Evidence) -> Iterator[str]:
    """A batch's result counts its children rightly, as their logs had it when it ended."""
    for job_id, log in _groups(seen):
        for written in log:
            if isinstance(written.event, Completed):
                for what in _miscounts(seen, job_id, log, written, written.event):
                    yield f"group.{job_id}: {what}"


def _miscounts(seen: Evidence, job_id: str, log: list[Written], written: Written, end: Completed) -> Iterator[str]:
    result = msgspec.json.decode(end.result, type=Tallied)
    if [it.job_id for it in result.ends] != [f"{kind}.{child}" for kind, child in _children(seen, job_id, end)]:
        yield "its result is not about its children"
    if result.counts != Counter(it.outcome for it in result.ends):
        yield f"counts {result.counts} of {[it.outcome for it in result.ends]}"
    # One that has enough begins no run of a child anew for which it has no need: its end of the run before stands.
    began = None if result.choosy else _opening(log, end.run)
    latest = _latest(seen, job_id, end, began)
    for it in result.ends:
        counted = [w.sequence for w in seen.log(*_key(it.job_id)) if (w.event.run, w.event.n) == (it.run, it.n)]
        if counted and counted[0] < latest.get(it.job_id, 0):
            yield f"{it.job_id} is counted as {it.outcome} (run {it.run}, n {it.n}), and it had told of a later end"
        if not _is_true(seen, it, f"group.{job_id}", began, before=written.sequence):
            yield f"{it.job_id} is counted as {it.outcome} (run {it.run}, n {it.n}), and its log does not say so"


def _latest(seen: Evidence, job_id: str, end: Completed, began: Written | None) -> dict[str, int]:
    """The last end of each child, in `EVENTS`, that was told when every child had told of one."""
    names = [".".join(key) for key in _children(seen, job_id, end)]
    known: dict[str, int] = {}
    for message in seen.world.server.streams[subjects.JOINS].messages(subjects.child_notice(f"group.{job_id}")):
        notice = joins.decode(message.body)
        is_over = began is not None and notice.outcome != "completed" and notice.sequence <= began.sequence
        if notice.outcome != "refused" and notice.child in names and not is_over:
            known[notice.child] = max(notice.sequence, known.get(notice.child, 0))
        if len(known) == len(names):
            break
    return known if len(known) == len(names) else {}


def _key(name: str) -> Key:
    kind, _, job_id = name.partition(".")
    return kind, job_id


def _is_true(seen: Evidence, end: End, batch: str, began: Written | None, *, before: int) -> bool:
    kind, job_id = _key(end.job_id)
    if end.outcome == "refused":
        # A child whose log names this batch lives, whatever message under its id was refused.
        lives = any(written.event.parent == batch for written in seen.log(kind, job_id))
        earlier = began.event.dlq_sequence if began is not None and isinstance(began.event, Requeued) else 0
        letters = [letter for letter in seen.letters if letter.subject == subjects.dead_letter(kind, job_id)]
        return not lives and any(letter.sequence > earlier for letter in letters)
    since = 0 if began is None else began.sequence
    told = [it for it in seen.log(kind, job_id) if is_terminal(it.event) and it.sequence < before]
    # Of an earlier run of the batch only what was completed counts.
    told = [it for it in told if it.sequence > since or isinstance(it.event, Completed)]
    return (end.run, end.n, end.outcome) in [(it.event.run, it.event.n, events.event_name(it.event)) for it in told]


def endings(seen: Evidence) -> Iterator[str]:
    """Whatever ends a batch that has begun, its children have ended before; a cancelled one counts them rightly."""
    for job_id, log in _groups(seen):
        begun = {it.event.run for it in log if isinstance(it.event, Started)}
        for written in log:
            event = written.event
            if not is_terminal(event) or event.run not in begun:
                continue
            ends = dict(_ends(seen, job_id, log, written))
            for child, end in ends.items():
                if end is None or not is_terminal(end):
                    yield f"group.{job_id}: has {events.event_name(event)}, and {'.'.join(child)} goes on"
            if isinstance(event, Cancelled):
                yield from _miscancelled(seen, job_id, event, [end for end in ends.values() if end is not None])


def _miscancelled(seen: Evidence, job_id: str, event: Cancelled, ends: list[Event]) -> Iterator[str]:
    told = event.counts or {}
    found_so = sum(times for name, times in told.items() if name.startswith("cancelled_"))
    counts = {name: times for name, times in told.items() if not name.startswith("cancelled_")}
    size = len(_children(seen, job_id, event))
    if sum(counts.values()) != size or found_so > counts.get("cancelled", 0):
        yield f"group.{job_id}: cancelled with {told} of {size} children"
    found = Counter(events.event_name(end) for end in ends)
    if len(ends) == size and any(counts.get(name, 0) != times for name, times in found.items()):
        yield f"group.{job_id}: cancelled with {counts}, and its children have {dict(found)}"


def _ends(seen: Evidence, job_id: str, log: list[Written], written: Written) -> Iterator[tuple[Key, Event | None]]:
    """The last event of each child before its batch ended. What is another's, or ran before its batch, is left out."""
    for kind, child in _children(seen, job_id, written.event):
        whole = seen.log(kind, child)
        before = [it for it in whole if it.sequence < written.sequence]
        refused = any(letter.subject == subjects.dead_letter(kind, child) for letter in seen.letters)
        early = bool(whole) and whole[0].sequence < log[0].sequence
        if early or any(it.event.parent != f"group.{job_id}" for it in whole) or (not whole and refused):
            continue
        yield (kind, child), before[-1].event if before else None


def cancels(seen: Evidence) -> Iterator[str]:
    """A batch's cancel holds to its end, a batch cancels its own, and a command older than a run leaves that alone."""
    for (kind, job_id), log in seen.logs.items():
        asked: dict[int, Event] = {}
        for written in log:
            event = written.event
            if event.run in asked and (not event.cancelling or event.asked != asked[event.run].asked):
                yield f"{kind}.{job_id}: n {event.n} does not say that it is being cancelled"
            if event.run in asked and isinstance(event, Completed):
                yield f"{kind}.{job_id}: completed, after its cancel was in the log"
            if event.cancelling:
                asked.setdefault(event.run, event)
            if isinstance(event, Cancelled):
                yield from (f"{kind}.{job_id}: {what}" for what in _miscancels(seen, kind, job_id, log, event))


def _miscancels(seen: Evidence, kind: str, job_id: str, log: list[Written], event: Cancelled) -> Iterator[str]:
    if event.requested_by.startswith("group."):
        if event.parent != event.requested_by:
            yield f"cancelled by {event.requested_by}, and is another's"
        return
    began = _opening(log, event.run)
    commands = [it for it in seen.accepted[subjects.CONTROL].values() if it.subject == subjects.cancel(kind, job_id)]
    if began is not None and not any(it.time >= began.event.time for it in commands):
        yield f"cancelled in run {event.run}, and every command to cancel it is older than that run"


def reruns(seen: Evidence) -> Iterator[str]:
    """A run follows a failure, or a new run of its batch: nothing completed runs again, and no failure twice."""
    children = {child for job_id, log in _groups(seen) for it in log for child in _children(seen, job_id, it.event)}
    for (kind, job_id), log in seen.logs.items():
        before: Event | None = None
        for written in log:
            event = written.event
            follows = _follows_in_batch if (kind, job_id) in children else _follows
            if isinstance(event, Requeued) and before is not None and not follows(event, before):
                yield f"{kind}.{job_id}: run {event.run} follows {events.event_name(before)}"
            before = event
    for job_id, log in _groups(seen):
        for opening, end in _later_runs(log):
            for kind, child in _children(seen, job_id, end.event):
                inside = [it for it in seen.log(kind, child) if opening.sequence < it.sequence < end.sequence]
                # Somebody else's job under a child's id is replayed as often as its operator likes.
                times = sum(isinstance(it.event, Requeued) and it.event.parent == f"group.{job_id}" for it in inside)
                if times > 1:
                    yield f"{kind}.{child}: requeued {times} times in run {end.event.run} of its batch"


def _follows(event: Requeued, before: Event) -> bool:
    return isinstance(before, Failed) and event.dlq_sequence == before.dlq_sequence


def _follows_in_batch(event: Requeued, before: Event) -> bool:
    # What was cancelled has no dead letter, and runs again with its batch alone.
    return _follows(event, before) or (isinstance(before, Cancelled) and event.dlq_sequence == 0)


def _later_runs(log: list[Written]) -> Iterator[tuple[Written, Written]]:
    """The `requeued` and the end of each run but the first."""
    for written in log:
        opening = _opening(log, written.event.run)
        if is_terminal(written.event) and opening is not None:
            yield opening, written


def _opening(log: Iterable[Written], run: int) -> Written | None:
    """The `requeued` that opened a run."""
    return next((it for it in log if isinstance(it.event, Requeued) and it.event.run == run), None)


def _groups(seen: Evidence) -> Iterator[tuple[str, list[Written]]]:
    return ((job_id, log) for (kind, job_id), log in seen.logs.items() if kind == "group")


def _children(seen: Evidence, job_id: str, event: Event) -> list[Key]:
    try:
        group = msgspec.json.decode(seen.original(event.origin).body, type=Group)
    except msgspec.DecodeError:
        # It never decoded, so it never began.
        return []
    return [(member.kind, f"{job_id}-{member.key}") for member in group.members]
