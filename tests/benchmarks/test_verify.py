"""What is no proper result is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from contracts import headers as h
from infra.bus.base import Stored
from tests.benchmarks.jobs import PAYLOAD_BYTES, Job, answer, job, jobs
from tests.benchmarks.verify import answers, lifecycle

OWED = list(jobs("j", 3))


def log_of(one: Job, first: int) -> list[Stored]:
    """What a gateway writes of a job."""
    started = {"event": "started", "kind": "digest", "job_id": one.id, "n": 1, "run": 1, "attempt": 1}
    completed = {**started, "event": "completed", "n": 2, "result": {"sha256": answer(one.text)}}
    return [event(one, started, first, 0), event(one, completed, first + 1, first)]


def event(one: Job, body: dict[str, Any], sequence: int, after: int) -> Stored:
    name = body["event"]
    headers = {
        h.CE_SPECVERSION: "1.0",
        h.CE_TYPE: f"jetray.digest.{name}.v1",
        h.CE_SOURCE: "/jetray/bench-1",
        h.CE_ID: f"id-{sequence}",
        h.CE_SUBJECT: one.id,
        h.CE_TIME: "2026-11-22T05:00:00Z",
        h.CONTENT_TYPE: "application/json",
        h.MSG_ID: f"id-{sequence}",
        h.EXPECTED_SEQUENCE: str(after),
        h.EXPECTED_FILTER: f"orchestration.digest.*.{one.id}",
    }
    subject = f"orchestration.digest.{name}.{one.id}"
    return Stored(subject, sequence, headers, json.dumps(body).encode(), datetime.now(UTC))


def whole() -> list[Stored]:
    return [message for number, one in enumerate(OWED) for message in log_of(one, 1 + 2 * number)]


def test_every_payload_has_140_bytes_of_its_own():
    many = list(jobs("a-long-prefix", 1_000))
    assert {len(one.text.encode()) for one in many} == {PAYLOAD_BYTES} == {140}
    assert len({one.text for one in many}) == len({one.answer for one in many}) == 1_000
    assert job(many[7].id) == many[7]


def test_whole_logs_are_fine():
    assert lifecycle("digest", whole(), OWED) == []


def test_right_answers_are_fine_in_any_order():
    assert answers([one.answer for one in reversed(OWED)], OWED) == []


@pytest.mark.parametrize(
    ("found", "what"),
    [
        ([OWED[0].answer, OWED[1].answer], "job j-2: 0 results"),
        ([OWED[0].answer, OWED[1].answer, OWED[2].answer, OWED[1].answer], "job j-1: 2 results"),
        ([OWED[0].answer, OWED[1].answer, "nonsense"], "'nonsense' is nobody's result"),
    ],
)
def test_an_answer_that_is_missing_twice_or_wrong(found, what):
    assert what in answers(found, OWED)


def body(**fields: Any) -> Callable[[Stored], Stored]:
    return lambda message: replace(message, body=json.dumps({**json.loads(message.body), **fields}).encode())


def header(name: str, value: str) -> Callable[[Stored], Stored]:
    return lambda message: replace(message, headers={**message.headers, name: value})


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (body(result={"sha256": OWED[0].answer}), "job j-1: its result is {'sha256'"),
        (body(n=3), "job j-1: completed has n 3"),
        (body(attempt=2), "job j-1: completed has attempt 2"),
        (body(event="failed"), "job j-1: completed has event 'failed'"),
        (header(h.CE_TYPE, "jetray.digest.failed.v1"), f"job j-1: completed has {h.CE_TYPE}"),
        (header(h.CE_SPECVERSION, ""), f"job j-1: completed has {h.CE_SPECVERSION} ''"),
        (header(h.CE_SOURCE, ""), f"job j-1: completed has no {h.CE_SOURCE}"),
        (header(h.MSG_ID, "other"), f"job j-1: completed has {h.MSG_ID} 'other'"),
        (header(h.EXPECTED_SEQUENCE, "0"), f"job j-1: completed has {h.EXPECTED_SEQUENCE} '0'"),
        (header(h.EXPECTED_FILTER, "orchestration.digest.>"), f"job j-1: completed has {h.EXPECTED_FILTER}"),
        (lambda message: replace(message, subject=message.subject.replace("digest", "nap")), "is stored on"),
    ],
)
def test_an_event_that_is_not_what_it_must_be(change, what):
    stored = whole()
    stored[3] = change(stored[3])
    wrong = lifecycle("digest", stored, OWED)
    assert any(what in each for each in wrong), wrong


def test_a_log_that_is_missing_too_long_or_nobodys():
    missing, started_only, stranger = whole()[:4], whole()[:5], whole() + log_of(Job("x-1", ""), 90)
    assert lifecycle("digest", missing, OWED) == ["job j-2: its log has 0 events"]
    assert lifecycle("digest", started_only, OWED) == ["job j-2: its log has 1 events"]
    assert lifecycle("digest", stranger, OWED) == ["'x-1' is nobody's log"]


def test_an_event_written_twice():
    stored = whole()
    twice = [*stored, replace(stored[5], sequence=7)]
    assert "job j-2: its log has 3 events" in lifecycle("digest", twice, OWED)
    assert f"{h.CE_ID} id-6 is on 2 events" in lifecycle("digest", twice, OWED)
