"""One value of every message, with each optional field set in at least one of them, and the bytes that they must be.

A golden file holds a line a message: its name, a space, its exact bytes (msgpack as hex). A line that has to change is
a new version of the message, unless a field was only added.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msgspec import Raw, Struct

from contracts.agents import AgentResponse
from contracts.batch import Batch, BatchResult, Best, Files, Listed, Row, Totals, Variant, VariantResult
from contracts.calls import Call, Emitted, Gone, Raised, Ran, Reported, Returned, Tracked, TrackingFailed
from contracts.control import CancelRequest
from contracts.deliberation import (
    Agent,
    Constraints,
    Critique,
    Deliberation,
    DeliberationResult,
    FailedAgent,
    Ranked,
    Winner,
)
from contracts.errors import ErrorInfo
from contracts.events import (
    Artifact,
    Asked,
    Cancelled,
    Completed,
    DeliveryRef,
    Failed,
    FilesTracked,
    FilesTrackingFailed,
    LogEvent,
    Moved,
    Progress,
    Requeued,
    Retrying,
    Spent,
    Started,
    TrackedFile,
)
from contracts.fleet import (
    ActiveJob,
    ActorFailed,
    ActorInitialized,
    ActorRestarted,
    ActorRetired,
    BackpressureApplied,
    BackpressureReleased,
    ControlDone,
    ControlRefused,
    FleetEvent,
    GatewayDraining,
    GatewayReconnected,
    GatewayStarted,
    GatewayStatus,
    GatewayStopped,
    IntakeRefused,
    KindTotals,
    PoolCreated,
    PoolResized,
    Versions,
)
from contracts.joins import Notice
from contracts.plan import Council, Plan, PlanResult

__all__ = ["AGENTS", "CALLS", "CONTROL", "EVENTS", "FLEET", "KINDS", "NOTICES", "STATUS", "golden"]

TIME = datetime(2026, 11, 22, 5, 0, 0, 123456, tzinfo=UTC)
LATER = datetime(2026, 11, 22, 5, 10, 0, 500000, tzinfo=UTC)
SHA = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
ERROR = ErrorInfo(reason="user", type="ValueError", message="no such criterion: Größe", retryable=True)
MOVED = Moved(artifact="nats://artifacts/P1-DEV/result.json", sha256=SHA)
GATEWAY: dict[str, Any] = {"gateway": "gw-1", "time": TIME}


def _log(**fields: Any) -> dict[str, Any]:
    """Fields that every event of a log has, and `fields`."""
    common = {
        "kind": "deliberation",
        "job_id": "P1-DEV",
        "n": 1,
        "run": 1,
        "attempt": 1,
        "time": TIME,
        "gateway": "gw-1",
        "origin": "JOBS:17",
    }
    return {**common, **fields}


_CHILD = {"parent": "plan.P1", "correlation_id": "P1", "subject_id": "P1 DEV", "cancelling": True}

EVENTS: dict[str, LogEvent] = {
    "started": Started(
        **_log(**_CHILD),
        input_sha256=SHA,
        delivery=DeliveryRef(17, 2),
        actor="deliberation-1",
        waited_ms=12,
        deadline=LATER,
        spent=Spent(1, 2),
    ),
    "started-batch": Started(
        **_log(kind="plan", job_id="P1", origin="PLANNING:3", correlation_id="P1"),
        input_sha256=SHA,
        delivery=DeliveryRef(3, 1),
        actor=None,
        waited_ms=0,
        deadline=LATER,
        spent=Spent(),
    ),
    "progress": Progress(
        **_log(n=2),
        done=1,
        total=3,
        message="agent-dev-001 has proposed",
        step="propose",
        eta_ms=1500,
        counts={"running": 2, "completed": 1},
    ),
    "progress-batch": Progress(
        **_log(n=2), done=1, total=2, eta_ms=500, counts={"completed": 1, "open": 1}, elapsed_ms=500, per_second=2.0
    ),
    "progress-least": Progress(**_log(n=2), step="cancelling"),
    "progress-cancelling": Progress(
        **_log(n=2, cancelling=True, asked=Asked(reason="superseded", requested_by="ops")),
        message="superseded",
        step="cancelling",
    ),
    "retrying": Retrying(**_log(n=3), error=ERROR, delay_ms=1733, next_attempt=2, spent=Spent(1, 0)),
    "retrying-moved": Retrying(**_log(n=3), error=ERROR, delay_ms=0, next_attempt=2, spent=Spent(1, 0), moved=True),
    "files_tracked": FilesTracked(
        **_log(n=4), commit="c0ffee", files=[TrackedFile(name="out/report.md", bytes=512, sha256=SHA)]
    ),
    "files_tracked-moved": FilesTracked(**_log(n=4), commit="c0ffee", files=MOVED),
    "files_tracking_failed": FilesTrackingFailed(
        **_log(n=4),
        error=ErrorInfo(reason="storage", type="OSError", message="no space left"),
        files=["out/report.md"],
    ),
    "completed": Completed(
        **_log(n=5, **_CHILD),
        result=Raw(b'{"score":0.75,"text":"done"}'),
        artifacts=[Artifact(name="report.md", uri="nats://artifacts/P1-DEV/report.md", bytes=512, sha256=SHA)],
        duration_ms=5321,
    ),
    "completed-moved": Completed(
        **_log(n=5),
        result=Raw(b'{"artifact":"nats://artifacts/P1-DEV/result.json","sha256":"' + SHA.encode() + b'"}'),
        artifacts=MOVED,
        duration_ms=5321,
    ),
    "failed": Failed(
        **_log(n=5),
        error=ErrorInfo(reason="quorum", type="Fail", message="1 of 3 agents answered, 2 must"),
        attempts=3,
        dlq_sequence=8,
    ),
    "failed-batch": Failed(
        **_log(n=5),
        error=ErrorInfo(reason="dependency", type="Fail", message="a failed; 1 completed, 1 failed"),
        attempts=1,
        dlq_sequence=8,
        counts={"completed": 1, "failed": 1},
    ),
    "cancelled": Cancelled(
        **_log(n=5),
        reason="cancelled by an operator",
        requested_by="operator",
        stage="running",
        counts={"completed": 1, "cancelled": 2},
    ),
    "cancelled-queued": Cancelled(**_log(), reason="not needed", requested_by="maintainer", stage="queued"),
    "requeued": Requeued(**_log(n=6, run=2), dlq_sequence=8, input_sha256=SHA),
}

AGENTS: dict[str, Struct] = {
    "completed": AgentResponse(
        task_id="P1-DEV",
        agent_id="agent-dev-001",
        role="DEV",
        phase="score",
        round=0,
        status="completed",
        duration_ms=640,
        timestamp=TIME,
        model="offline-1",
        provider="offline",
        proposal="Cache the catalogue for a minute.",
    ),
    "failed": AgentResponse(
        task_id="P1-DEV",
        agent_id="agent-dev-002",
        role="DEV",
        phase="criticise",
        round=1,
        status="failed",
        duration_ms=30000,
        timestamp=TIME,
        model="offline-1",
        provider="offline",
        error=ErrorInfo(reason="dependency", type="APITimeoutError", message="no answer in 30 s", retryable=True),
    ),
    "progress": AgentResponse(
        task_id="P1-DEV",
        agent_id="dev",
        role="DEV",
        phase="propose",
        round=0,
        status="progress",
        duration_ms=0,
        timestamp=TIME,
        model="offline-1",
        provider="offline",
    ),
}

VERSIONS = Versions(jetray="0.1.0", python="3.11.9", ray="2.60.0", nats_server="2.15.1")

FLEET: dict[str, FleetEvent] = {
    "gateway.started": GatewayStarted(**GATEWAY, kinds=["deliberation", "plan"], versions=VERSIONS),
    "gateway.draining": GatewayDraining(**GATEWAY, reason="SIGTERM", active=3),
    "gateway.stopped": GatewayStopped(**GATEWAY, uptime_ms=86_400_000),
    "gateway.reconnected": GatewayReconnected(**GATEWAY, away_ms=12_000),
    "pool.created": PoolCreated(
        **GATEWAY, profile="default", actors=["default-1", "default-2"], cpus=2.0, gpus=0.5, memory=1 << 30, slots=8
    ),
    "pool.resized": PoolResized(**GATEWAY, profile="default", before=2, after=4, depth=900),
    "actor.initialized": ActorInitialized(**GATEWAY, profile="default", actor="default-1", duration_ms=812),
    "actor.failed": ActorFailed(
        **GATEWAY,
        profile="default",
        actor="default-1",
        error=ErrorInfo(reason="lost", type="ActorDiedError", message="the actor died", retryable=True),
        jobs=["deliberation.P1-DEV"],
        executions=41,
    ),
    "actor.restarted": ActorRestarted(
        **GATEWAY, profile="default", actor="default-3", replaces="default-1", restarts=1, reason="lost"
    ),
    "actor.retired": ActorRetired(**GATEWAY, profile="default", actor="default-3", reason="drained", executions=7),
    "backpressure.applied": BackpressureApplied(
        **GATEWAY, kind="deliberation", depth=1200, high=1000, actors=4, reason="depth", waited_ms=61_000
    ),
    "backpressure.released": BackpressureReleased(
        **GATEWAY, kind="deliberation", depth=240, low=250, lasted_ms=90_000, completed=960
    ),
    "intake.refused": IntakeRefused(**GATEWAY, kind="deliberation", job_id="T1", reason="id_conflict", dlq_sequence=9),
    "control.done": ControlDone(**GATEWAY, command="control.replay.8", sequence=4, detail="run 2 of deliberation.T1"),
    "control.refused": ControlRefused(
        **GATEWAY, command="control.cancel.score.T1", sequence=5, reason="no kind score is registered"
    ),
}

STATUS: dict[str, Struct] = {
    "serving": GatewayStatus(
        gateway="gw-1",
        time=TIME,
        state="serving",
        uptime_ms=60_000,
        active=[
            ActiveJob(
                kind="deliberation",
                job_id="P1-DEV",
                run=1,
                attempt=1,
                started=TIME,
                deadline=LATER,
                actor="default-1",
            )
        ],
        kinds={
            "deliberation": KindTotals(
                active=1, completed=12, failed=1, cancelled=0, retried=2, average_ms=5321.5, depth=3
            ),
            "plan": KindTotals(active=0, completed=0, failed=0, cancelled=0, retried=0, average_ms=0.0, depth=None),
        },
        pools={"default": {"total": 8, "free": 7}},
        versions=Versions(jetray="0.1.0", python="3.11.9", ray=None, nats_server="2.15.1"),
    ),
}

NOTICES: dict[str, Struct] = {
    "completed": Notice(child="deliberation.P1-DEV", index=0, outcome="completed", run=1, sequence=42),
    "refused": Notice(child="deliberation.P1-QA", index=1, outcome="refused", run=1, sequence=9),
}

CONTROL: dict[str, Struct] = {
    "cancel": CancelRequest(reason="not needed", requested_by="maintainer"),
    "cancel-least": CancelRequest(),
}

WINNER = Winner(agent_id="agent-dev-001", proposal="Cache it.", score=0.8, reasoning="best on tests (0.9)")

KINDS: dict[str, Struct] = {
    "batch-input": Batch(
        batch_id="B7",
        workflow="examples.prompt_search",
        variants=[Listed(name="a", parameters={"temperature": 0.2})],
        parallelism=4,
        policy="threshold",
        threshold=0.8,
        inputs={"prompts.txt": "nats://artifacts/prompts.txt"},
        files=Files(include=["*.csv"], exclude=["*.tmp"], max_bytes=1_000_000),
    ),
    "batch-input-matrix": Batch(batch_id="B8", kind="score", matrix={"depth": [1, 2]}),
    "batch-result": BatchResult(
        batch_id="B7",
        counts={"completed": 1, "failed": 1, "cancelled": 0, "refused": 0, "total": 2},
        best=Best(name="a", score=0.75),
        comparison=[
            Row(
                name="a",
                job_id="B7-a",
                outcome="completed",
                score=0.75,
                metrics={"tokens": 12.0},
                files=Totals(count=1, bytes=512),
            ),
            Row(name="b", job_id="B7-b", outcome="failed", error=ERROR),
        ],
        files=Totals(count=1, bytes=512),
    ),
    "variant-input": Variant(
        workflow="examples.prompt_search",
        name="a",
        parameters={"temperature": 0.2},
        inputs={"prompts.txt": "nats://artifacts/prompts.txt"},
        files=Files(),
    ),
    "variant-result": VariantResult(
        score=0.75, metrics={"tokens": 12.0}, output={"prompt": "Be brief."}, files=Totals(count=1, bytes=512)
    ),
    "plan-input": Plan(
        story_id="S1", plan_id="P1", approved_by="reviewer-1", timestamp="2026-11-22T05:00:00Z", roles=["DEV", "QA"]
    ),
    "plan-result": PlanResult(
        plan_id="P1",
        story_id="S1",
        councils=[
            Council(role="DEV", job_id="P1-DEV", outcome="completed", winner=WINNER, score=0.8, error=None),
            Council(
                role="QA",
                job_id="P1-QA",
                outcome="failed",
                winner=None,
                score=None,
                error=ErrorInfo(reason="quorum", type="Fail", message="1 of 3 agents answered, 2 must"),
            ),
        ],
    ),
    "deliberation-input": Deliberation(
        task_id="T1",
        task_description="Cache the catalogue",
        role="DEV",
        rounds=2,
        num_agents=2,
        agents=[Agent(id="a-1", role="DEV", model="m-1", prompt_template="{task_description}"), Agent(id="a-2")],
        rubric={"quality": 2.0, "tests": 1.0},
        constraints=Constraints(
            story_id="S1", plan_id="P1", timeout_seconds=90.0, max_retries=2, metadata={"team": "catalogue"}
        ),
        quorum=2,
    ),
    "deliberation-input-least": Deliberation(task_id="T1", task_description="Cache the catalogue", role="DEV"),
    "deliberation-result": DeliberationResult(
        task_id="T1",
        role="DEV",
        provider="offline",
        model="offline-1",
        winner=WINNER,
        ranking=[
            Ranked(
                agent_id="agent-dev-001",
                proposal="Cache it.",
                score=0.8,
                scores={"quality": 0.75, "tests": 0.9},
                critiques=[Critique(agent_id="agent-dev-002", round=1, critique="No word on expiry.")],
            )
        ],
        rounds=1,
        total_agents=2,
        successful_responses=1,
        failed_responses=1,
        failed_agents=[FailedAgent(agent_id="agent-dev-002", error=ERROR)],
    ),
}

CALLS: dict[str, Any] = {
    "call": Call(
        kind="deliberation",
        job_id="P1-DEV",
        run=1,
        attempt=2,
        input=b'{"task_id":"T1"}',
        deadline=1_795_410_600.5,
        timeout_s=599.5,
        exclusive=False,
        streams=True,
        correlation_id="P1",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ),
    "call-least": Call(
        kind="k",
        job_id="J1",
        run=1,
        attempt=1,
        input=b"1",
        deadline=1_795_410_600.5,
        timeout_s=9.5,
        exclusive=True,
        streams=False,
    ),
    "call-attempt": Call(
        kind="k",
        job_id="J1",
        run=1,
        attempt=1,
        input=b"1",
        deadline=1_795_410_600.5,
        timeout_s=9.5,
        exclusive=True,
        streams=False,
        attempt_deadline=True,
    ),
    "reported": Reported(done=1, total=3, message="m", step="propose", eta_ms=9, counts={"running": 2}),
    "reported-least": Reported(done=1),
    "emitted": Emitted(topic="response", name="progress", body=b"{}"),
    "tracked": Tracked(commit=SHA, files=[TrackedFile(name="a/b.csv", bytes=3, sha256=SHA)]),
    "tracked-moved": Tracked(commit=SHA, files=MOVED),
    "tracking_failed": TrackingFailed(error=ERROR, files=["link"]),
    "tracking_failed-moved": TrackingFailed(error=ERROR, files=MOVED),
    "returned": Returned(result=b'{"score":1}', artifacts=[Artifact(name="a", uri="u", bytes=1, sha256=SHA)]),
    "returned-least": Returned(result=b"null"),
    "raised": Raised(error=ERROR, retry_after_s=2.5),
    "raised-least": Raised(error=ERROR),
    "gone": Gone(error=ErrorInfo(reason="lost", type="ActorDiedError", message="the actor died", retryable=True)),
    "ran": Ran([Returned(result=b"1"), Raised(error=ERROR)], 0.25),
}


def golden(group: str) -> dict[str, bytes]:
    """The bytes of a golden file, by message."""
    lines = (Path(__file__).parent / "golden" / f"{group}.txt").read_bytes().splitlines()
    return {name.decode(): body for name, _, body in (line.partition(b" ") for line in lines)}
