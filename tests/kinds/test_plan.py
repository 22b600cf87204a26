"""Kind `plan`: one council a role, and every outcome told."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from contracts.deliberation import Deliberation, DeliberationResult, Ranked, Winner
from contracts.errors import ErrorInfo
from contracts.events import Cancelled, Completed, Failed
from contracts.inbound import InputSpec
from contracts.plan import Plan, PlanResult
from workers.kinds.registry import Child, ChildEnd, Fail, Kind, KindError, load


@pytest.fixture
def kind() -> Kind:
    return load([])["plan"]


def plan(*roles: str) -> Plan:
    return Plan(story_id="S1", plan_id="P1", approved_by="r", timestamp="2026-11-22T05:00:00Z", roles=list(roles))


WINNER = Winner(agent_id="agent-dev-001", proposal="do it", score=0.75, reasoning="best")
COMMON: dict[str, Any] = {
    "kind": "deliberation",
    "job_id": "P1-DEV",
    "n": 2,
    "run": 1,
    "attempt": 1,
    "time": datetime(2026, 11, 22, 5, tzinfo=UTC),
    "gateway": "gw-1",
    "origin": "JOBS:1",
}


def result(winner: Winner = WINNER) -> bytes:
    ranked = Ranked(agent_id=winner.agent_id, proposal=winner.proposal, score=winner.score, scores={}, critiques=[])
    return msgspec.json.encode(
        DeliberationResult(
            task_id="P1-DEV",
            role="DEV",
            provider="offline",
            model="offline-v1",
            winner=winner,
            ranking=[ranked],
            rounds=1,
            total_agents=1,
            successful_responses=1,
            failed_responses=0,
            failed_agents=[],
        )
    )


def end(role: str, outcome: Any, event: Any = None, error: ErrorInfo | None = None) -> ChildEnd:
    child = Child(key=role, kind="deliberation", input=None)
    return ChildEnd(child=child, job_id=f"P1-{role}", outcome=outcome, event=event, error=error)


def completed(role: str, body: bytes | None = None) -> ChildEnd:
    return end(role, "completed", Completed(**COMMON, result=Raw(body or result()), artifacts=[], duration_ms=5))


QUORUM = ErrorInfo(reason="quorum", type="NoQuorum", message="0 of 3 agents stand")


def failed(role: str) -> ChildEnd:
    return end(role, "failed", Failed(**COMMON, error=QUORUM, attempts=1, dlq_sequence=3), QUORUM)


def cancelled(role: str) -> ChildEnd:
    event = Cancelled(**COMMON, reason="no need", requested_by="ops", stage="running")
    error = ErrorInfo(reason="cancelled_child", type="Cancelled", message="no need")
    return end(role, "cancelled", event, error)


# --- expand


def test_one_deliberation_for_each_role(kind: Kind):
    children = kind.instance(None).expand(plan("DEV", "QA"))
    assert [(child.key, child.kind) for child in children] == [("DEV", "deliberation"), ("QA", "deliberation")]
    assert msgspec.to_builtins(children[0].input, str_keys=True) == {
        "task_id": "P1-DEV",
        "task_description": "Implement plan P1 for story S1",
        "role": "DEV",
        "rounds": None,
        "num_agents": None,
        "agents": [],
        "rubric": {},
        "constraints": {
            "story_id": "S1",
            "plan_id": "P1",
            "timeout_seconds": None,
            "max_retries": None,
            "metadata": {},
        },
        "quorum": None,
    }
    msgspec.json.decode(msgspec.json.encode(children[0].input), type=Deliberation)


def test_a_plan_without_roles_takes_the_settings(kind: Kind):
    assert [child.key for child in kind.instance(None).expand(plan())] == ["ARCHITECT", "DEV", "QA"]
    instance = kind.instance(Raw(b'{"roles":["OPS"]}'))
    assert [child.key for child in instance.expand(plan())] == ["OPS"]
    assert [child.key for child in instance.expand(plan("DEV"))] == ["DEV"]


def test_roles_are_the_plans_own_order_and_repetition(kind: Kind):
    # Keys that repeat are refused by name where children are published; here nothing is dropped in silence.
    assert [child.key for child in kind.instance(None).expand(plan("QA", "DEV", "QA"))] == ["QA", "DEV", "QA"]


@pytest.mark.parametrize("config", [b'{"roles":[]}', b'{"roles":[""]}', b'{"role":["DEV"]}', b'{"roles":["A","A"]}'])
def test_settings_that_do_not_fit(kind: Kind, config: bytes):
    with pytest.raises(KindError, match=r"kind plan: its settings do not fit: .*role"):
        kind.instance(Raw(config))


def test_approved_twice_is_one_plan(kind: Kind):
    spec: InputSpec[Plan] = kind.spec
    again = Plan(story_id="S1", plan_id="P1", approved_by="other", timestamp="later", roles=["DEV"])
    assert spec.digest(plan("DEV")) == spec.digest(again)
    assert spec.digest(plan("DEV")) != spec.digest(plan("QA"))
    assert spec.id_field == "plan_id"


# --- reduce


def test_every_outcome_is_told_in_the_order_of_roles(kind: Kind):
    refusal = ErrorInfo(reason="id_conflict", type="IdConflict", message="the id names another input")
    ends = [failed("ARCHITECT"), completed("DEV"), cancelled("QA"), end("OPS", "refused", None, refusal)]
    summary = kind.instance(None).reduce(plan("ARCHITECT", "DEV", "QA", "OPS"), ends)
    assert isinstance(summary, PlanResult)
    assert (summary.plan_id, summary.story_id) == ("P1", "S1")
    told = [(c.role, c.job_id, c.outcome, c.score, c.error and c.error.reason) for c in summary.councils]
    assert told == [
        ("ARCHITECT", "P1-ARCHITECT", "failed", None, "quorum"),
        ("DEV", "P1-DEV", "completed", 0.75, None),
        ("QA", "P1-QA", "cancelled", None, "cancelled_child"),
        ("OPS", "P1-OPS", "refused", None, "id_conflict"),
    ]
    assert summary.councils[1].winner == WINNER
    assert summary.councils[0].winner is None


@pytest.mark.parametrize(
    "event",
    [
        None,
        Completed(**COMMON, result=Raw(b'{"artifact":"nats://artifacts/x","sha256":"0"}'), artifacts=[], duration_ms=1),
    ],
)
def test_a_result_that_is_not_at_hand_leaves_its_winner_open(kind: Kind, event: Any):
    summary = kind.instance(None).reduce(plan("DEV"), [end("DEV", "completed", event)])
    (council,) = summary.councils
    assert (council.outcome, council.winner, council.score, council.error) == ("completed", None, None, None)


def test_a_plan_fails_only_if_every_council_did(kind: Kind):
    instance = kind.instance(None)
    outcome = instance.reduce(plan("DEV", "QA"), [failed("DEV"), cancelled("QA")])
    assert isinstance(outcome, Fail)
    assert outcome.reason == "dependency"
    assert str(outcome) == (
        "no council completed: DEV failed (quorum: 0 of 3 agents stand); QA cancelled (cancelled_child: no need)"
    )
    outcome = instance.reduce(plan("DEV", "QA"), [cancelled("DEV"), cancelled("QA")])
    assert isinstance(outcome, Fail)
    assert outcome.reason == "cancelled_child"
    assert isinstance(instance.reduce(plan("DEV", "QA"), [failed("DEV"), completed("QA")]), PlanResult)


def test_a_summary_is_json(kind: Kind):
    summary = kind.instance(None).reduce(plan("DEV"), [completed("DEV")])
    assert msgspec.json.decode(msgspec.json.encode(summary), type=PlanResult) == summary
