"""What was broken of what is promised: of each log, of user code, and of what is left behind."""

from __future__ import annotations

from collections.abc import Iterator

from contracts import headers as h
from contracts.events import Cancelled, Requeued, Started, is_terminal
from tests.checker import violations
from tests.simulation.aftermath import answers, dead_letters, moves
from tests.simulation.attempts import budgets, company, deadlines, executions, holders, leases, losses, results
from tests.simulation.batches import cancels, endings, reruns, results_of_batches
from tests.simulation.evidence import Evidence, Message, Written
from tests.simulation.world import World

__all__ = ["judge"]

LAWS = (
    executions,
    holders,
    budgets,
    company,
    deadlines,
    losses,
    results,
    leases,
    dead_letters,
    moves,
    answers,
    results_of_batches,
    endings,
    cancels,
    reruns,
)


def judge(world: World) -> list[str]:
    """What was broken, in words; empty where every promise was kept."""
    seen = Evidence(world)
    broken = [*world.troubles]
    broken += violations({key: [it.event for it in log] for key, log in seen.logs.items()})
    broken += _missing(seen)
    broken += _strangers(seen)
    for law in LAWS:
        broken += law(seen)
    if not world.troubles:
        broken += [f"at rest: {what}" for what in world.unrest()]
    return broken


def _missing(seen: Evidence) -> Iterator[str]:
    """Everything accepted has ended, under its own id or in `DLQ`."""
    for message in seen.messages:
        if _was_refused(seen, message):
            continue
        log = seen.log(message.kind, message.job_id)
        what = f"{message.origin} ({message.kind}.{message.job_id})"
        if not log or not is_terminal(log[-1].event):
            yield f"{what}: accepted, and has no end"
        elif message.digest is not None and not _knows(log, message.digest):
            yield f"{what}: another input under its id, and it was not refused"


def _was_refused(seen: Evidence, message: Message) -> bool:
    reasons = ("id_conflict",) if message.digest is not None else ("decode", "too_large")
    letters = [letter for letter in seen.letters if letter.headers[h.ORIGIN] == message.origin]
    if not any(letter.headers[h.REASON] in reasons for letter in letters):
        return False
    return all(written.event.origin != message.origin for written in seen.log(message.kind, message.job_id))


def _knows(log: list[Written], digest: str) -> bool:
    """Whether the log is about that input. As long as it has no opening, cancelled before it began, it is about any."""
    digests = [written.event.input_sha256 for written in log if isinstance(written.event, (Started, Requeued))]
    return isinstance(log[0].event, Cancelled) or digest in digests


def _strangers(seen: Evidence) -> Iterator[str]:
    """A refusal never touches another job's log, and a log is about one input."""
    for letter in seen.letters:
        kind, job_id, origin = (letter.headers[name] for name in (h.KIND, h.JOB_ID, h.ORIGIN))
        if letter.headers[h.REASON] == "id_conflict" and any(
            written.event.origin == origin for written in seen.log(kind, job_id)
        ):
            yield f"{kind}.{job_id}: {origin} was refused, and stands in the log"
    for (kind, job_id), log in seen.logs.items():
        digests = {written.event.input_sha256 for written in log if isinstance(written.event, (Started, Requeued))}
        if len(digests - {""}) > 1:
            yield f"{kind}.{job_id}: {len(digests)} inputs in one log"
