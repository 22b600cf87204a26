"""`workers.core.lifecycle`: another's hand in the log, lost leases, and what does not decode."""

from __future__ import annotations

from typing import Final

import msgspec
import pytest

from contracts.events import Completed, DeliveryRef, Failed, LogEvent, Spent
from tests.core.helpers import (
    FIRST,
    NOW,
    after,
    cancelled,
    completed,
    failed,
    log,
    progress,
    requeued,
    retrying,
    started,
    ticket,
)
from tests.core.jobs import ENDS, GONE, PHASES, RETRYABLE, RETURNED, UNDECODABLE, appended, job, paid, running, told
from workers.core.job import (
    Ack,
    Adopted,
    Append,
    Buried,
    Bury,
    Drained,
    HandOver,
    LeaseLost,
    Leave,
    LogRead,
    Pay,
    Phase,
    Refuse,
    Reported,
    Stimulus,
    Stop,
    Stored,
)
from workers.core.lifecycle import Illegal, decide
from workers.core.log import EMPTY

# Another's hand in the log


@pytest.mark.parametrize("phase", [Phase.RUNNING, Phase.REPORTING])
def test_a_foreign_progress_of_the_attempt_leaves_its_holder_in_place(phase: Phase) -> None:
    view = log(started(), progress())
    found, commands = told(PHASES[phase], LogRead(view))
    assert (found.phase, commands) == (Phase.RUNNING, ())
    assert (found.sequence, found.n) == (FIRST + 1, 2)
    _, commands = told(found, RETURNED)
    assert commands == (Append(appended(commands, Completed), FIRST + 1),)
    assert appended(commands, Completed).n == 3


@pytest.mark.parametrize("stimulus", [RETURNED, RETRYABLE, GONE])
def test_an_end_is_appended_after_a_foreign_progress_of_the_attempt(stimulus: Stimulus) -> None:
    ending, commands = told(running(), stimulus)
    first = appended(commands, LogEvent)
    found, commands = told(ending, LogRead(log(started(), progress())), now=after(1))
    again = msgspec.structs.replace(first, n=3, time=after(1))
    assert (found.phase, commands) == (Phase.ENDING, (Append(again, FIRST + 1),))  # type: ignore[arg-type]


@pytest.mark.parametrize("phase", [Phase.RUNNING, Phase.REPORTING, Phase.ENDING])
@pytest.mark.parametrize("end", ENDS)
def test_an_end_that_a_holder_finds_it_pays_and_acknowledges(phase: Phase, end: str) -> None:
    view = log(started(), ENDS[end])
    found, commands = told(PHASES[phase], LogRead(view))
    stops = () if phase is Phase.ENDING else (Stop(),)
    assert (found.phase, commands) == (Phase.SETTLED, (*stops, paid(view), Ack()))


OTHERS: Final = {
    "started": log(started(), started(attempt=2)),
    "progress of a later attempt": log(started(), started(attempt=2), progress(attempt=2)),
    "retrying": log(started(), retrying()),
    "requeued": log(started(), cancelled(), requeued()),
    "progress of a later run": log(started(), failed(), requeued(), started(run=2), progress(run=2)),
    "end of a later run": log(started(), failed(), requeued(), started(run=2), completed(run=2)),
}


@pytest.mark.parametrize("phase", [Phase.RUNNING, Phase.REPORTING, Phase.ENDING])
@pytest.mark.parametrize("other", OTHERS)
def test_whoever_is_fenced_settles_nothing(phase: Phase, other: str) -> None:
    found, commands = told(PHASES[phase], LogRead(OTHERS[other]))
    stops = () if phase is Phase.ENDING else (Stop(),)
    assert (found.phase, commands) == (Phase.SETTLED, (*stops, Leave()))


@pytest.mark.parametrize("phase", [Phase.REPORTING, Phase.ENDING])
def test_a_log_that_was_forgotten_fences(phase: Phase) -> None:
    found, commands = told(PHASES[phase], LogRead(EMPTY))
    assert (found.phase, commands[-1]) == (Phase.SETTLED, Leave())


def test_what_was_read_before_its_own_last_event_tells_nothing() -> None:
    """It was told of an earlier run's end, and read the log, before it reported."""
    old = log(started())
    found, _ = told(running(), Reported(done=1), Stored(150))
    assert told(found, LogRead(old)) == (found, ())
    assert told(running(), LogRead(old)) == (running(), ())


def test_an_attempt_that_was_adopted_from_another_message_is_not_fenced_by_progress() -> None:
    found, _ = told(running(), Adopted(ticket(30)))
    found, commands = told(found, LogRead(log(started(), progress())))
    assert (found.phase, commands) == (Phase.RUNNING, ())


# Leases


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.SETTLED])
def test_past_its_lease_it_sends_nothing(phase: Phase) -> None:
    found, commands = told(PHASES[phase], LeaseLost())
    assert (found.phase, commands[-1]) == (Phase.SETTLED, Leave())
    assert set(map(type, commands)) <= {Stop, Leave}
    assert (Stop() in commands) is (phase in (Phase.RUNNING, Phase.REPORTING))
    late: list[Stimulus] = [Stored(200), LogRead(EMPTY), RETURNED, Buried(9), Drained()]
    for stimulus in late:
        with pytest.raises(Illegal):
            decide(found, stimulus, now=NOW)


# What does not decode


def test_what_does_not_decode_fails_on_first_sight() -> None:
    found, commands = told(job(ticket(parent="b.P1", input_sha256="")), UNDECODABLE)
    assert (found.phase, commands) == (Phase.BURYING, (Bury("decode", 1, 0),))
    found, commands = told(found, Buried(9))
    end = failed(gateway="gw", parent="b.P1", error=UNDECODABLE.error, attempts=0, dlq_sequence=9)
    assert commands == (Append(end, 0),)
    assert told(found, Stored(150))[1] == (Pay(end, 150), Ack())


FOREIGN: Final = {"origin": "JOBS:5"}


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize(
    "view",
    [
        log(started(**FOREIGN)),
        log(started(**FOREIGN), mine=True, running=True),
        log(started(**FOREIGN), progress(**FOREIGN)),
        log(started(**FOREIGN), retrying(**FOREIGN)),
        log(started(**FOREIGN), completed(**FOREIGN)),
        log(cancelled(**FOREIGN)),
        log(started(**FOREIGN), failed(**FOREIGN), requeued(**FOREIGN)),
    ],
)
def test_what_does_not_decode_never_touches_anothers_log(number: int, view) -> None:
    held = job(ticket(number=number, input_sha256=""))
    steps = [UNDECODABLE, Buried(9)] if number == 1 else [UNDECODABLE]
    found, commands = told(held, *steps, LogRead(view))
    assert (found.phase, commands) == (Phase.SETTLED, (Refuse("decode"), Ack()))


@pytest.mark.parametrize("end", ENDS)
def test_what_does_not_decode_pays_the_end_of_its_own_log(end: str) -> None:
    view = log(ENDS[end])
    assert told(job(ticket(number=2)), UNDECODABLE, LogRead(view))[1] == (paid(view), Ack())
    assert told(job(), UNDECODABLE, Buried(9), LogRead(view))[1] == (paid(view), Ack())


@pytest.mark.parametrize(
    ("view", "made"),
    [
        (log(started(attempt=2)), 2),
        (log(started(attempt=2, spent=Spent(lost=5))), 2),
        (log(started(attempt=2), progress(attempt=2)), 2),
        (log(started(attempt=2), retrying(attempt=2)), 2),
    ],
)
def test_what_no_longer_decodes_ends_its_own_log(view, made: int) -> None:
    """A child whose decoder died only now. Refused, its message would be gone and its log would never end."""
    found, commands = told(job(ticket(number=3)), UNDECODABLE, LogRead(view))
    assert commands == (Bury("decode", 1, made),)
    _, commands = told(found, Buried(9))
    end = appended(commands, Failed)
    assert commands == (Append(end, view.sequence),)
    assert (end.n, end.run, end.attempt, end.attempts) == (view.tail.n + 1, 1, 2, made)


def test_what_no_longer_decodes_leaves_its_running_attempt_in_peace() -> None:
    held = job(ticket(number=2))
    assert told(held, UNDECODABLE, LogRead(log(started(), mine=True, running=True)))[1] == (HandOver(),)
    assert told(held, UNDECODABLE, LogRead(log(started(delivery=DeliveryRef(17, 2)))))[1] == (Leave(),)
    assert told(held, UNDECODABLE, LogRead(log(started(), failed(), requeued())))[1] == (Ack(),)


def test_what_does_not_decode_decides_anew_when_its_failed_is_refused() -> None:
    ending, _ = told(job(ticket(number=2)), UNDECODABLE, LogRead(log(started())), Buried(9))
    found, commands = told(ending, LogRead(log(started(), retrying())))
    assert (found.phase, commands) == (Phase.BURYING, (Bury("decode", 1, 1),))
    assert told(found, Buried(9))[1] == (Append(appended(told(found, Buried(9))[1], Failed), FIRST + 1),)
    found, commands = told(ending, LogRead(log(started(), mine=True, running=True)))
    assert (found.phase, commands) == (Phase.OPENING, (HandOver(),))


def test_a_replay_that_does_not_decode_fails_its_own_run() -> None:
    view = log(failed(), requeued(input_sha256=""))
    found, commands = told(job(ticket(30, run=2, input_sha256="")), UNDECODABLE, LogRead(view))
    assert commands == (Bury("decode", 2, 0),)
    _, commands = told(found, Buried(9))
    end = appended(commands, Failed)
    assert (end.n, end.run, end.attempt, end.origin, commands) == (3, 2, 1, "JOBS:30", (Append(end, FIRST + 1),))


def test_a_replay_that_does_not_decode_fails_its_own_run_of_a_forgotten_log_too() -> None:
    found, commands = told(job(ticket(30, run=2)), UNDECODABLE, LogRead(EMPTY))
    assert commands == (Bury("decode", 2, 0),)
    assert appended(told(found, Buried(9))[1], Failed).run == 2
