"""What a demo shows, in lines and on a terminal."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import msgspec
import pytest
from rich.console import Console

from contracts.agents import AgentResponse
from contracts.deliberation import DeliberationResult, Ranked, Winner
from contracts.errors import ErrorInfo
from contracts.events import Completed, DeliveryRef, Failed, Progress, Spent, Started
from contracts.plan import Council, PlanResult
from infra.bus.base import Stored
from workers.launcher.demo_view import View

NOW = datetime(2026, 11, 22, 5, tzinfo=UTC)
WINNER = Winner(agent_id="agent-dev-002", proposal="Cache it.", score=0.87654, reasoning="It tests first.")
ERROR = ErrorInfo(reason="quorum", type="NoQuorum", message="1 of 3 agents stand, 2 are needed")


def log_event(of, kind: str = "deliberation", job_id: str = "P1-DEV", **fields):
    common = {"n": 1, "run": 1, "attempt": 1, "time": NOW, "gateway": "gw-1", "origin": "JOBS:1"}
    return of(kind=kind, job_id=job_id, **common, **fields)


def begun(kind: str = "deliberation", job_id: str = "P1-DEV", actor: str | None = "default-1") -> Started:
    return log_event(
        Started,
        kind,
        job_id,
        input_sha256="0" * 64,
        delivery=DeliveryRef(1, 1),
        actor=actor,
        waited_ms=1,
        deadline=NOW,
        spent=Spent(),
    )


def ended() -> Completed:
    ranked = Ranked(agent_id=WINNER.agent_id, proposal=WINNER.proposal, score=WINNER.score, scores={}, critiques=[])
    result = DeliberationResult(
        task_id="P1-DEV",
        role="DEV",
        provider="offline",
        model="rules",
        winner=WINNER,
        ranking=[ranked],
        rounds=1,
        total_agents=3,
        successful_responses=3,
        failed_responses=0,
        failed_agents=[],
    )
    return log_event(Completed, result=msgspec.Raw(msgspec.json.encode(result)), artifacts=[], duration_ms=12)


def agent_said(status: str = "completed", error: ErrorInfo | None = None) -> Stored:
    response = AgentResponse(
        task_id="P1-DEV",
        agent_id="agent-dev-002",
        role="DEV",
        phase="propose",
        round=0,
        status=status,  # type: ignore[arg-type]
        duration_ms=5,
        timestamp=NOW,
        model="rules",
        provider="offline",
        error=error,
    )
    return Stored(f"agent.response.{status}.P1-DEV", 1, {}, msgspec.json.encode(response), NOW)


PLAN = PlanResult(
    plan_id="P1",
    story_id="S1",
    councils=[
        Council(role="DEV", job_id="P1-DEV", outcome="completed", winner=WINNER, score=WINNER.score, error=None),
        Council(role="QA", job_id="P1-QA", outcome="failed", winner=None, score=None, error=ERROR),
    ],
)


def view(*, terminal: bool, width: int = 160) -> tuple[View, io.StringIO]:
    out = io.StringIO()
    console = Console(
        file=out, force_terminal=terminal, width=width, highlight=False, soft_wrap=True, color_system=None
    )
    return View(with_ray=True, console=console), out


def told(out: io.StringIO) -> list[str]:
    """The lines, less the seconds before each."""
    return [line.partition(" s  ")[2] for line in out.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (begun(), "orchestration.deliberation.started.P1-DEV  on default-1"),
        (begun("plan", "P1", None), "orchestration.plan.started.P1"),
        (
            log_event(Progress, done=1, total=4, step="propose", message="3 of 3 [agents] stand"),
            "orchestration.deliberation.progress.P1-DEV  propose, 1 of 4, 3 of 3 [agents] stand",
        ),
        (log_event(Progress, "plan", "P1", counts={"completed": 1}), "orchestration.plan.progress.P1"),
        (ended(), "orchestration.deliberation.completed.P1-DEV  in 12 ms"),
        (
            log_event(Failed, error=ERROR, attempts=1, dlq_sequence=1),
            "orchestration.deliberation.failed.P1-DEV  quorum: 1 of 3 agents stand, 2 are needed",
        ),
    ],
)
def test_where_there_is_no_terminal_each_event_is_a_line(event, line):
    shown, out = view(terminal=False)

    with shown:
        shown.event(event)

    assert told(out) == [line]


def test_agents_and_gateways_are_heard_too():
    shown, out = view(terminal=False)
    ready = {"gateway": "gw-1", "actor": "default-1", "duration_ms": 640}

    with shown:
        shown.message(agent_said())
        shown.message(agent_said("failed", ERROR))
        shown.message(agent_said("progress"))
        shown.message(Stored("workers.actor.initialized.gw-1", 1, {}, msgspec.json.encode(ready), NOW))
        shown.note("the gateway serves")

    assert told(out) == [
        "agent.response.completed.P1-DEV  agent-dev-002 propose (5 ms)",
        "agent.response.failed.P1-DEV  agent-dev-002 propose: 1 of 3 agents stand, 2 are needed (5 ms)",
        "agent.response.progress.P1-DEV  propose (5 ms)",
        "workers.actor.initialized.gw-1  default-1 640 ms",
        "the gateway serves",
    ]


def test_the_end_names_each_councils_winner_and_sums_up():
    shown, out = view(terminal=False)
    shown.message(agent_said())

    shown.conclude(PLAN)

    text = out.getvalue()
    assert "DEV: agent-dev-002 wins with 0.8765\n    It tests first.\n" in text
    assert "QA: failed: 1 of 3 agents stand, 2 are needed\n" in text
    assert "plan P1 of story S1: 1 of 2 councils completed" in text
    assert "Provider `offline` is no language model" in text


def test_a_terminal_shows_a_row_for_each_council_and_is_clean_afterwards():
    shown, out = view(terminal=True)

    with shown:
        for event in (begun("plan", "P1", None), begun(), log_event(Progress, done=1, total=4, step="propose")):
            shown.event(event)
        shown.message(agent_said())
        shown.event(ended())
        shown.event(begun(job_id="P1-QA"))
        shown.draw()
        drawn = out.getvalue()

    row = next(line for line in drawn.splitlines() if line.startswith("P1-DEV"))
    assert row.split()[:3] == ["P1-DEV", "completed", "propose"]
    assert row.rstrip().endswith("1       agent-dev-002 0.8765")
    assert any(line.split()[:2] == ["P1-QA", "started"] for line in drawn.splitlines())
    assert "orchestration.deliberation.completed.P1-DEV" in drawn
    assert out.getvalue() != drawn


def test_a_terminal_keeps_the_latest_events_alone():
    shown, _ = view(terminal=True)

    for number in range(20):
        shown.note(f"line {number}")

    assert [line.rpartition(" ")[2] for line in shown.latest] == [str(number) for number in range(12, 20)]
