"""Whether every job has its result, once, and the right one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from contracts import headers as h
from contracts.subjects import event as event_subject
from contracts.subjects import job_log
from infra.bus.base import Stored
from tests.benchmarks.jobs import Job

__all__ = ["LIFECYCLE", "answers", "lifecycle"]

LIFECYCLE: Final = ("started", "completed")


def answers(found: Iterable[str], owed: Iterable[Job]) -> list[str]:
    """What is wrong with bare results; each job's is different from all others."""
    there, wanted = Counter(found), {job.answer: job.id for job in owed}
    wrong = [f"job {wanted[text]}: {there[text]} results" for text in wanted if there[text] != 1]
    return wrong + [f"{text[:80]!r} is nobody's result" for text in there if text not in wanted]


def lifecycle(kind: str, stored: Sequence[Stored], owed: Iterable[Job]) -> list[str]:
    """What is wrong with job logs: each is `started` (n 1) and `completed` (n 2), written by compare-and-set."""
    logs: dict[str, list[Stored]] = {}
    for message in stored:
        logs.setdefault(message.subject.rpartition(".")[2], []).append(message)
    wrong = []
    for job in owed:
        wrong += [f"job {job.id}: {what}" for what in _log(kind, job, logs.pop(job.id, []))]
    wrong += [f"{job_id[:80]!r} is nobody's log" for job_id in logs]
    ids = Counter(message.headers.get(h.CE_ID) for message in stored)
    return wrong + [f"{h.CE_ID} {name} is on {count} events" for name, count in ids.items() if count > 1]


def _log(kind: str, job: Job, log: Sequence[Stored]) -> list[str]:
    if len(log) != len(LIFECYCLE):
        return [f"its log has {len(log)} events"]
    wrong, before = [], 0
    for n, (name, message) in enumerate(zip(LIFECYCLE, log, strict=True), 1):
        wrong += _event(kind, job, name, n, message) + _headers(kind, job, name, before, message)
        before = message.sequence
    result = _body(log[-1]).get("result")
    if result != {"sha256": job.answer}:
        wrong.append(f"its result is {str(result)[:80]}")
    return wrong


def _event(kind: str, job: Job, name: str, n: int, message: Stored) -> list[str]:
    wanted = {"event": name, "kind": kind, "job_id": job.id, "n": n, "run": 1, "attempt": 1}
    body = _body(message)
    wrong = [f"{name} has {field} {body.get(field)!r}" for field, value in wanted.items() if body.get(field) != value]
    if message.subject != event_subject(kind, name, job.id):
        wrong.append(f"{name} is stored on {message.subject}")
    return wrong


def _headers(kind: str, job: Job, name: str, after: int, message: Stored) -> list[str]:
    """CloudEvents, and what made it a compare-and-set."""
    found: Mapping[str, str] = message.headers
    wanted = {
        h.CE_SPECVERSION: "1.0",
        h.CE_TYPE: f"jetray.{kind}.{name}.v1",
        h.CE_SUBJECT: job.id,
        h.CONTENT_TYPE: h.JSON,
        h.MSG_ID: found.get(h.CE_ID) or "the same as ce-id",
        h.EXPECTED_SEQUENCE: str(after),
        h.EXPECTED_FILTER: job_log(kind, job.id),
    }
    wrong = [
        f"{name} has {header} {found.get(header)!r}" for header, value in wanted.items() if found.get(header) != value
    ]
    return wrong + [f"{name} has no {header}" for header in (h.CE_SOURCE, h.CE_TIME) if not found.get(header)]


def _body(message: Stored) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(message.body)
    return body
