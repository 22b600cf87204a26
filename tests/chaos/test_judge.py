"""The judge names what was broken, and nothing where nothing was."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from contracts.errors import ErrorInfo
from contracts.events import Completed, DeliveryRef, Event, Failed, Progress, Spent, Started
from contracts.fleet import ControlDone
from infra.bus.base import Stored
from tests.chaos.evidence import Evidence, Written
from tests.chaos.faults import Struck
from tests.chaos.judge import judge, sort_out
from tests.chaos.kinds import Entry, Ran
from tests.chaos.leftovers import Left
from tests.chaos.overlaps import Overlap, overlaps

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
KEY = ("work", "J1")


def moment(seconds: float) -> float:
    return EPOCH.timestamp() + seconds


def event(what: type[Any], n: int, attempt: int = 1, **more: Any) -> Any:
    common: dict[str, Any] = {"kind": "work", "job_id": "J1", "n": n, "run": 1, "attempt": attempt, "time": EPOCH}
    return what(**common, gateway="gw-1", origin="JOBS:1", **more)


def started(n: int, attempt: int = 1) -> Started:
    deadline = EPOCH + timedelta(minutes=10)
    ref = DeliveryRef(sequence=1, number=attempt)
    return event(
        Started, n, attempt, input_sha256="0", delivery=ref, actor="a", waited_ms=1, deadline=deadline, spent=Spent()
    )


def completed(n: int, attempt: int = 1, token: str = "t2") -> Completed:
    result = msgspec.Raw(msgspec.json.encode(Ran(token)))
    return event(Completed, n, attempt, result=result, artifacts=[], duration_ms=1)


def failed(n: int) -> Failed:
    error = ErrorInfo(reason="lost", type="X", message="gone", retryable=False)
    return event(Failed, n, 2, error=error, attempts=2, dlq_sequence=5)


def log(*events: tuple[Event, str]) -> list[Written]:
    return [Written(each, n, nonce, moment(n)) for n, (each, nonce) in enumerate(events, 1)]


def entry(what: str, attempt: int, at: float) -> Entry:
    return Entry(what, "work", "J1", f"t{attempt}", 1, moment(at), run=1, attempt=attempt)


def evidence(**changes: Any) -> Evidence:
    """A job that was taken over and completed, and a cancel that was answered."""
    whole: dict[str, Any] = {
        "logs": {KEY: log((started(1), "a"), (started(2, 2), "b"), (completed(3, 2), "b"))},
        "accepted": {KEY: 1},
        "commands": {1: "control.cancel.work.J1"},
        "answers": [answer(1)],
        "ledger": [entry("began", 1, 1.5), entry("began", 2, 2.5), entry("ended", 2, 2.9)],
        "left": {"JOBS": [], "CONTROL": []},
        "seen_live": [1, 2, 3],
    }
    return Evidence(**whole | changes)


def answer(sequence: int) -> ControlDone:
    return ControlDone(gateway="gw-1", time=EPOCH, command="c", sequence=sequence, detail="d")


def left(stream: str, subject: str, job_id: str) -> Left:
    return Left(
        stream=stream,
        sequence=9,
        subject=subject,
        message_id=f"work.{job_id}.1",
        stored="at noon",
        job_id=job_id,
        consumer="below the ack floor",
        lines=["gw-1.log: lost"],
    )


def letter(sequence: int) -> Stored:
    return Stored(subject="dlq.work.J1", sequence=sequence, headers={}, body=b"", time=EPOCH)


def test_a_whole_history_breaks_nothing() -> None:
    assert judge(evidence()) == []
    assert overlaps(evidence(), []) == []


def logged(*events: tuple[Event, str]) -> dict[str, Any]:
    return {"logs": {KEY: log(*events)}, "seen_live": list(range(1, len(events) + 1))}


PLANTED: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "lost": (lambda: {"accepted": {KEY: 1, ("echo", "J2"): 2}}, "echo.J2: accepted, and has no log"),
    "unended": (
        lambda: logged((started(1), "a"), (started(2, 2), "b")),
        "work.J1: run 1 has 0 terminal events",
    ),
    "double end": (
        lambda: logged(
            (started(1), "a"), (started(2, 2), "b"), (completed(3, 2), "b"), (completed(4, 2), "b")
        ),
        "work.J1: run 1 has 2 terminal events",
    ),
    "gap": (
        lambda: logged((started(1), "a"), (started(2, 2), "b"), (completed(4, 2), "b")),
        "work.J1: n is [1, 2, 4]",
    ),
    "stranger": (
        lambda: logged((started(1), "a"), (started(2, 2), "b"), (completed(3, 2), "a")),
        "work.J1: n 3 was not written by the holder of attempt (1, 2)",
    ),
    "fenced": (
        lambda: logged(
            (started(1), "a"), (started(2, 2), "b"), (event(Progress, 3, done=1), "a"), (completed(4, 2), "b")
        ),
        "work.J1: n 3 is of attempt (1, 1), after (1, 2) had begun",
    ),
    "failed": (
        lambda: logged((started(1), "a"), (started(2, 2), "b"), (failed(3), "b")) | {"letters": {5: letter(5)}},
        "work.J1: failed (lost, X: gone)",
    ),
    "no letter": (
        lambda: logged((started(1), "a"), (started(2, 2), "b"), (failed(3), "b")),
        "work.J1: failed, and DLQ:5 is not its message",
    ),
    "stray letter": (lambda: {"letters": {7: letter(7)}}, "DLQ:7 (dlq.work.J1): no log says that it failed"),
    "too early": (
        lambda: {"ledger": [entry("began", 1, 0.5), entry("began", 2, 2.5), entry("ended", 2, 2.9)]},
        "work.J1 run 1 attempt 1: user code ran before its started was durable",
    ),
    "executed twice": (
        lambda: {"ledger": [entry("began", 2, 2.5), entry("began", 2, 2.6), entry("ended", 2, 2.9)]},
        "work.J1 run 1 attempt 2: executed 2 times in 1 attempts",
    ),
    "another's result": (
        lambda: logged((started(1), "a"), (started(2, 2), "b"), (completed(3, 2, token="t1"), "b"))
        | {"ledger": [entry("began", 1, 1.5), entry("ended", 1, 2.9)]},
        "work.J1: attempt 2 completed with the result of 1",
    ),
    "nobody's result": (lambda: {"ledger": []}, "work.J1: completed with what no user code returned"),
    "unanswered": (lambda: {"answers": []}, "CONTROL:1 (control.cancel.work.J1) has 0 answers"),
    "answered twice": (
        lambda: {"answers": [answer(1), answer(1)]},
        "CONTROL:1 (control.cancel.work.J1) has 2 answers",
    ),
    "left over": (
        lambda: {"left": {"JOBS": [left("JOBS", "jobs.work.high", "J1")], "CONTROL": []}},
        "JOBS:9 (jobs.work.high, work.J1.1, stored at noon) is left, below the ack floor; the log of work.J1 ends with "
        "completed, n 3 of run 1 attempt 2, by gw-1 at 00:00:00.000000, of JOBS:1\n    gw-1.log: lost",
    ),
    "left over, unknown": (
        lambda: {"left": {"JOBS": [left("JOBS", "jobs.work", "J9")]}},
        "JOBS:9 (jobs.work, work.J9.1, stored at noon) is left, below the ack floor; work.J9 has no log"
        "\n    gw-1.log: lost",
    ),
    "left over command": (
        lambda: {"left": {"CONTROL": [left("CONTROL", "control.replay.7", "")]}, "answers": [answer(1), answer(9)]},
        "CONTROL:9 (control.replay.7, work..1, stored at noon) is left, below the ack floor; it has 1 answers"
        "\n    gw-1.log: lost",
    ),
    "unseen": (lambda: {"seen_live": [1, 3]}, "the observer missed 1 events, saw 0 twice, of 3"),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_violation_is_named(name: str) -> None:
    changes, line = PLANTED[name]
    assert line in judge(evidence(**changes()))


@pytest.mark.parametrize(
    ("struck", "excuse"),
    [
        (Struck("gateway frozen", "gw-1", moment(1.6), moment(2.6)), "gateway frozen gw-1"),
        (Struck("gateway frozen", "gw-2", moment(1.6), moment(2.6)), None),
        (
            Struck("partition", "gw-1, what waited is lost", moment(-8.0), moment(1.4)),
            "partition gw-1, what waited is lost",
        ),
        (Struck("partition", "gw-2, what waited is lost", moment(-8.0), moment(1.4)), None),
        (Struck("replies lost", "gw-1, for a while", moment(1.6), moment(2.6)), None),
        (Struck("raylet killed", "raylet 7", moment(-10.0), moment(-9.0)), "raylet killed raylet 7"),
        (Struck("raylet killed", "raylet 7", moment(-30.0), moment(-29.0)), None),
        (Struck("GCS killed", "gcs 7", moment(3.0), moment(3.0)), None),
    ],
)
def test_an_attempt_that_ran_on_beside_the_next_is_explained_or_not(struck: Struck, excuse: str | None) -> None:
    late = [entry("began", 1, 1.5), entry("ended", 1, 2.75), entry("began", 2, 2.5), entry("ended", 2, 2.9)]
    assert overlaps(evidence(ledger=late), [struck]) == [Overlap("work.J1", 1, moment(1.5), 0.25, excuse)]


def test_violations_are_sorted_by_what_matters() -> None:
    broken = judge(evidence(**PLANTED["double end"][0]())) + judge(evidence(**PLANTED["gap"][0]()))
    broken += judge(evidence(**PLANTED["lost"][0]())) + judge(evidence(**PLANTED["left over"][0]()))
    assert sort_out(broken) == {"lost": 1, "double ends": 1, "gaps": 1, "other": 1}
