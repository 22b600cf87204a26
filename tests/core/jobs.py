"""What the tests of the lifecycle share: jobs in every phase, what may happen to them, and what comes of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, TypeVar

from msgspec import Raw

from contracts.events import Event, Started, TrackedFile
from tests.core.helpers import FIRST, LIMIT_S, NOW, cancelled, completed, error, failed, log, started, ticket
from workers.core.job import (
    Append,
    Command,
    Delivered,
    Gone,
    Job,
    LeaseLost,
    LogRead,
    Pay,
    Phase,
    Raised,
    Reported,
    Returned,
    Stimulus,
    Stored,
    Tracked,
    TrackingFailed,
    Undecodable,
)
from workers.core.lifecycle import decide
from workers.core.log import LogView, Ticket
from workers.core.retry import RetryPolicy

E = TypeVar("E")

RETURNED: Final = Returned(Raw(b'{"x":1}'))
TRACKED: Final = Tracked("c0ffee", [TrackedFile(name="a/b.csv", bytes=3, sha256="ab")])
TRACKING_FAILED: Final = TrackingFailed(error("storage"), ["a/b.csv"])
RAISED: Final = Raised(error())
RETRYABLE: Final = Raised(error(retryable=True))
GONE: Final = Gone(error("lost", retryable=True))
UNDECODABLE: Final = Undecodable(error("decode"))

ENDS: Final[dict[str, Event]] = {"completed": completed(), "failed": failed(), "cancelled": cancelled()}


def job(held: Ticket | None = None, **fields: Any) -> Job:
    """A job just pulled by gateway `gw`."""
    usual: dict[str, Any] = {
        "ticket": held or ticket(),
        "policy": RetryPolicy(),
        "gateway": "gw",
        "actor": "a1",
        "limit_s": LIMIT_S,
        "stored": NOW,
    }
    return Job(**(usual | fields))


def running(held: Ticket | None = None, **fields: Any) -> Job:
    """A job whose first attempt runs: its `started` is event 101."""
    opening, _ = decide(job(held, **fields), Delivered(), now=NOW)
    found, _ = decide(opening, Stored(FIRST), now=NOW)
    assert found.phase is Phase.RUNNING
    return found


def told(found: Job, *stimuli: Stimulus, now: datetime = NOW, jitter: float = 0.5) -> tuple[Job, tuple[Command, ...]]:
    """What becomes of a job through these stimuli, and the commands of the last of them."""
    commands: tuple[Command, ...] = ()
    for stimulus in stimuli:
        found, commands = decide(found, stimulus, now=now, jitter=jitter)
    return found, commands


def appended(commands: tuple[Command, ...], kind: type[E]) -> E:
    """The event that the last of `commands` appends."""
    assert isinstance(commands[-1], Append), commands
    assert isinstance(commands[-1].event, kind), commands
    return commands[-1].event


def opening_of(found: Job) -> Started:
    """The `started` that it is about to append."""
    assert isinstance(found.pending, Started)
    return found.pending


def paid(view: LogView) -> Pay:
    """What the end of this log owes."""
    assert view.tail is not None
    return Pay(view.tail, view.sequence)


def probing() -> Job:
    found, _ = told(job(ticket(30)), Delivered(), LogRead(log(started())))
    return found


def moving() -> Job:
    found, _ = told(running(crowded=True), RETRYABLE, Stored(FIRST + 1, "own.2"))
    return found


PHASES: Final[dict[Phase, Job]] = {
    Phase.OPENING: told(job(), Delivered())[0],
    Phase.PROBING: probing(),
    Phase.RUNNING: running(),
    Phase.REPORTING: told(running(), Reported(done=1))[0],
    Phase.BURYING: told(running(), RAISED)[0],
    Phase.ENDING: told(running(), RETURNED)[0],
    Phase.MOVING: moving(),
    Phase.SETTLED: told(running(), LeaseLost())[0],
}
