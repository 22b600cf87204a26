"""Every decision that can be come to, found by trying: all jobs that follow from a delivery by what may be answered.

A command's answers are those that its docstring in `workers.core.job` names; a running job may hear more. Jobs that
differ in numbers alone are one. The search ends when nothing new turns up; it is the same each time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec import Raw

from contracts.events import Event, Spent
from tests.core.helpers import (
    LIMIT_S,
    NOW,
    after,
    cancelled,
    cancelling,
    completed,
    error,
    failed,
    files_tracked,
    log,
    progress,
    requeued,
    retrying,
    started,
    ticket,
)
from workers.core import job as core
from workers.core.job import Job, Phase, Stimulus
from workers.core.lifecycle import decide
from workers.core.log import LogView, Ticket
from workers.core.outcomes import Outcome
from workers.core.retry import RetryPolicy

__all__ = ["explore", "outcome_of"]

POLICY: Final = RetryPolicy(max_attempts=2, max_lost=1)
TIMES: Final = (NOW, after(LIMIT_S + 1))
"""Before the deadline, and past it."""

TICKETS: Final[list[Ticket]] = [
    message
    for batch in (False, True)
    for message in (
        ticket(batch=batch),
        ticket(number=2, batch=batch),
        ticket(30, batch=batch),
        ticket(30, input_sha256="other", batch=batch),
        ticket(30, parent="b.P2", batch=batch),
        ticket(30, origin="PLANNING:30", queued=False, batch=batch),
        ticket(30, run=2, batch=batch),
    )
]
"""Messages in hand. The logs' origin is JOBS:17."""

LOGS: Final[list[list[Event]]] = [
    [],
    [started()],
    [started(attempt=2, spent=Spent(lost=1))],
    [started(attempt=3, spent=Spent(lost=2))],
    [started(), progress()],
    [started(), cancelling()],
    [started(), progress(), started(attempt=2, spent=Spent(lost=1)), cancelling(attempt=2)],
    [started(), files_tracked()],
    [started(), retrying()],
    [started(), retrying(moved=True)],
    [started(), completed()],
    [started(), failed()],
    [started(), cancelled()],
    [cancelled(stage="queued")],
    [started(), failed(), requeued()],
    [started(), failed(), requeued(), started(run=2)],
    [started(), failed(), requeued(), cancelled(run=2)],
]
VIEWS: Final[list[LogView]] = [log(*events, mine=here, running=here) for events in LOGS for here in (False, True)]

WHILE_RUNNING: Final[list[Stimulus]] = [
    core.Reported(done=1),
    core.Tracked("c0ffee", []),
    core.TrackingFailed(error("storage"), ["a"]),
    core.Returned(Raw(b"1")),
    core.Raised(error()),
    core.Raised(error(retryable=True)),
    core.Raised(error(retryable=True), retry_after_s=10 * LIMIT_S),
    core.Gone(error("lost", retryable=True)),
    core.Adopted(ticket(number=2)),
    core.TakenApart(error("lost", retryable=True)),
    core.Drained(),
]


def answers(job: Job, asked: core.Command | None) -> Iterator[Stimulus]:
    """What may happen to a job next, whose last command was `asked` (None before the first)."""
    yield core.LeaseLost()
    read = [core.LogRead(view) for view in VIEWS]
    stale = core.LogRead(msgspec.structs.replace(log(started()), sequence=job.sequence))
    match asked:
        case None:
            yield core.Delivered()
            yield core.Undecodable(error("decode"))
        case _ if job.phase is Phase.RUNNING:
            yield from (*WHILE_RUNNING, *read, stale)
            if job.asked is not None:
                yield core.ChildrenEnded({"completed": 1})
        case core.Append():
            yield core.Stored(job.sequence + 1)
            yield from read
        case core.Read():
            yield from read
        case core.Probe():
            yield from (core.Probed(exists=True), core.Probed(exists=False))
        case core.HandOver():
            yield core.HandedOver()
            yield from read
        case core.Bury():
            yield core.Buried(7)
        case core.Move():
            yield core.MovedOn(done=True)
            yield core.MovedOn(done=False)
        case _:
            raise AssertionError(f"say here what may answer {type(asked).__name__}")


def outcome_of(job: Job, commands: tuple[core.Command, ...]) -> Outcome:
    """A decision, less its details."""
    return job.phase, tuple(type(command) for command in commands)


def explore() -> dict[tuple[Phase, type], set[Outcome]]:
    """Outcomes by phase and stimulus."""
    found: dict[tuple[Phase, type], set[Outcome]] = {}
    seen: set[bytes] = set()
    begin = [*map(_job, TICKETS), _job(ticket(), crowded=True), _job(ticket(number=2), crowded=True)]
    open_: deque[tuple[Job, core.Command | None]] = deque((job, None) for job in begin)
    while open_:
        job, asked = open_.popleft()
        for stimulus in answers(job, asked):
            for now in TIMES:
                after_it, commands = decide(job, stimulus, now=now, jitter=0.5)
                found.setdefault((job.phase, type(stimulus)), set()).add(outcome_of(after_it, commands))
                follows = after_it, commands[-1] if commands else asked
                if after_it.phase is not Phase.SETTLED and (key := _key(*follows)) not in seen:
                    seen.add(key)
                    open_.append(follows)
    return found


def _job(message: Ticket, *, crowded: bool = False) -> Job:
    """Just pulled; of a lane where many messages wait out a delay, or few."""
    return Job(
        ticket=message,
        policy=POLICY,
        gateway="gw",
        actor=None if message.batch else "a1",
        limit_s=LIMIT_S,
        stored=NOW,
        crowded=crowded,
        full=crowded,
    )


def _key(job: Job, asked: core.Command | None) -> bytes:
    """The same for jobs that differ in numbers and words alone, which decide nothing."""
    told = type(job.pending).__name__, type(asked).__name__, job.error is None, job.deadline is None
    probed = (job.log.mine, type(job.log.tail).__name__, job.log.sequence) if job.log else None
    rest = {"n": 0, "made": 0, "parent": None, "began": None, "pending": None, "log": None}
    plain = msgspec.structs.replace(job, sequence=bool(job.sequence), error=None, deadline=None, **rest)
    return msgspec.json.encode((plain, told, probed))
