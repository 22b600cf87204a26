"""The main job on real parts: a plan approved on the bus becomes councils, and their results come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from contracts import subjects
from contracts.catalogue import KindInfo
from contracts.events import Completed, Failed
from contracts.plan import PlanResult
from tests.checker import logs, read_all, violations
from tests.integration.stack import Stack, stack

pytestmark = [pytest.mark.asyncio, pytest.mark.server]

PLAN = '{"story_id":"S1","plan_id":"%s","approved_by":"reviewer-1","timestamp":"%s","roles":["DEV","QA"]}'
EARLY, LATE = "2026-11-22T05:00:00Z", "2026-11-22T06:00:00Z"
APPROVED = "planning.plan.approved"

SLOW_COUNCILS = """
[providers.offline]
think_s = 0.5
"""


@pytest_asyncio.fixture
async def jetray(tmp_path: Path) -> AsyncIterator[Stack]:
    async with stack(tmp_path) as running:
        yield running


@pytest.mark.parametrize("ray", ["none", pytest.param("local", marks=pytest.mark.ray)])
async def test_a_plan_becomes_councils_and_their_results_come_back(jetray: Stack, ray: str) -> None:
    await jetray.gateway(ray=ray)
    await jetray.publish(APPROVED, PLAN % ("P1", EARLY))
    end = await jetray.end("plan", "P1")
    assert isinstance(end, Completed)
    result = msgspec.json.decode(end.result, type=PlanResult)
    assert [(council.role, council.job_id, council.outcome) for council in result.councils] == [
        ("DEV", "P1-DEV", "completed"),
        ("QA", "P1-QA", "completed"),
    ]
    assert all(council.winner is not None and council.winner.proposal for council in result.councils)
    told = [message.subject for message in await read_all(jetray.bus, subjects.EVENTS, "orchestration.*.*.*")]
    for subject in (
        "orchestration.plan.started.P1",
        "orchestration.deliberation.started.P1-DEV",
        "orchestration.deliberation.completed.P1-DEV",
        "orchestration.deliberation.completed.P1-QA",
        "orchestration.plan.progress.P1",
        "orchestration.plan.completed.P1",
    ):
        assert subject in told
    agents = [message.subject for message in await read_all(jetray.bus, subjects.AGENTS, "agent.*.*.P1-DEV")]
    assert agents.count("agent.response.progress.P1-DEV") == 4, "propose, criticise, revise, score"
    assert agents.count("agent.response.completed.P1-DEV") == 3
    assert violations(await logs(jetray.bus)) == []


async def test_the_same_plan_again_starts_nothing(jetray: Stack) -> None:
    await jetray.gateway()
    await jetray.publish(APPROVED, PLAN % ("P1", EARLY))
    await jetray.end("plan", "P1")
    before = await logs(jetray.bus)
    await jetray.publish(APPROVED, PLAN % ("P1", LATE))
    # A second job behind it on the same route: once that one has ended, the first one's duplicate was dealt with.
    await jetray.publish(APPROVED, PLAN % ("P2", LATE))
    await jetray.end("plan", "P2")
    after = await logs(jetray.bus)
    assert {key: log for key, log in after.items() if not key[1].startswith("P2")} == before


async def test_twenty_at_once_are_one_plan(jetray: Stack) -> None:
    await jetray.gateway()
    await asyncio.gather(*(jetray.publish(APPROVED, PLAN % ("P1", EARLY)) for _ in range(20)))
    await jetray.publish(APPROVED, PLAN % ("P1", LATE))
    await jetray.publish(APPROVED, PLAN % ("P2", LATE))
    await jetray.end("plan", "P1")
    await jetray.end("plan", "P2")
    found = await logs(jetray.bus)
    assert violations(found) == []
    assert sorted(found) == [
        ("deliberation", "P1-DEV"),
        ("deliberation", "P1-QA"),
        ("deliberation", "P2-DEV"),
        ("deliberation", "P2-QA"),
        ("plan", "P1"),
        ("plan", "P2"),
    ]
    assert {event.attempt for log in found.values() for event in log} == {1}


@pytest.mark.parametrize("ray", ["none", pytest.param("local", marks=[pytest.mark.ray, pytest.mark.proof])])
async def test_a_gateway_killed_in_mid_council_loses_nothing(jetray: Stack, tmp_path: Path, ray: str) -> None:
    (tmp_path / "jetray.toml").write_text(SLOW_COUNCILS)
    first = await jetray.gateway("gw-1", ray=ray, JETRAY_GATEWAY_ACK_WAIT_S="6")
    await jetray.publish(APPROVED, PLAN % ("P1", EARLY))
    await jetray.seen("deliberation", "P1-DEV", "progress")
    first.kill()
    await first.wait()
    await jetray.gateway("gw-2", ray=ray, JETRAY_GATEWAY_ACK_WAIT_S="6")
    assert isinstance(await jetray.end("plan", "P1", within_s=90), Completed)
    found = await logs(jetray.bus)
    assert violations(found) == []
    assert found["plan", "P1"][-1].attempt >= 2
    assert found["plan", "P1"][-1].gateway == "gw-2"
    assert all(isinstance(found["deliberation", job][-1], Completed) for job in ("P1-DEV", "P1-QA"))


async def test_a_single_council_and_what_may_be_sent(jetray: Stack) -> None:
    await jetray.gateway()
    told = await jetray.bus.value(subjects.KINDS, "deliberation")
    assert told is not None
    info = msgspec.json.decode(told, type=KindInfo)
    assert info.id_field == "task_id"
    assert "task_description" in str(info.input_schema)
    await jetray.publish("jobs.deliberation", '{"task_id":"T1","task_description":"Cache the catalogue","role":"DEV"}')
    assert isinstance(await jetray.end("deliberation", "T1"), Completed)


UNDECODABLE = {
    "empty": b"",
    "not JSON": b"nonsense",
    "wrong types": b'{"task_id":7,"task_description":[],"role":{}}',
    "missing fields": b'{"task_id":"T1"}',
    "unknown field": b'{"task_id":"T1","task_description":"x","role":"DEV","colour":"red"}',
    "deep": b'{"task_id":' + b"[" * 100_000,
    "deep and closed": b"[" * 100_000 + b"]" * 100_000,
    "invalid UTF-8": b'{"task_id":"T1","task_description":"\xff\xfe","role":"DEV"}',
    "too large": b'{"task_id":"T1","task_description":"' + b"x" * 1024 * 1024 + b'","role":"DEV"}',
}


async def test_what_does_not_decode_is_buried_on_first_sight(jetray: Stack) -> None:
    gateway = await jetray.gateway()
    sequences = {name: await jetray.publish("jobs.deliberation", body) for name, body in UNDECODABLE.items()}
    for name, sequence in sequences.items():
        end = await jetray.end("deliberation", f"JOBS-{sequence}")
        assert isinstance(end, Failed), name
        assert end.error.reason == ("too_large" if name == "too large" else "decode"), name
        letter = await jetray.bus.get(subjects.DLQ, end.dlq_sequence)
        assert letter is not None
        assert letter.body == UNDECODABLE[name], name
        assert letter.headers["Jetray-Origin"] == f"JOBS:{sequence}"
        assert letter.headers["Jetray-Reason"] == end.error.reason
    assert gateway.returncode is None
    assert ("deliberation", "T1") not in await logs(jetray.bus), "what does not decode never takes the id it names"
    await jetray.publish("jobs.deliberation", '{"task_id":"T1","task_description":"Still here?","role":"DEV"}')
    assert isinstance(await jetray.end("deliberation", "T1"), Completed)


async def test_odd_ids_and_headers(jetray: Stack) -> None:
    await jetray.gateway()
    body = '{"task_id":%s,"task_description":"x","role":"DEV"}'
    odd = ["a.b", "*", ">", "a b", "line\nbreak", "ä" * 200]
    for name in odd:
        await jetray.publish("jobs.deliberation", body % msgspec.json.encode(name).decode())
    expected = {"Nats-Expected-Stream": "JOBS", "X-Note": "kept"}
    sequence = await jetray.publish("jobs.deliberation", "nonsense", expected)
    end = await jetray.end("deliberation", f"JOBS-{sequence}")
    assert isinstance(end, Failed)
    letter = await jetray.bus.get(subjects.DLQ, end.dlq_sequence)
    assert letter is not None
    assert {name: letter.headers[f"Jetray-Header-{name}"] for name in expected} == expected
    found = {}
    for _ in range(600):
        found = await logs(jetray.bus)
        if sum(isinstance(log[-1], Completed) for log in found.values()) == len(odd):
            break
        await asyncio.sleep(0.05)
    assert sorted(log[-1].subject_id or "" for log in found.values() if isinstance(log[-1], Completed)) == sorted(odd)
    assert violations(found) == []
