"""The seventeen: what the other system called each, our event, and what a message must tell to prove it.

Each `proves` returns the fields that prove it, or nothing: an event that says less than what happened is none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct

from tests.seventeen.evidence import Evidence
from tests.seventeen.scenes import HELD, HIGH, LOW, MEMORY, VARIANTS
from tests.seventeen.workflows import CURVE, curve, digest, peak

__all__ = ["ROWS", "Row"]

Body = dict[str, Any]
Proof = dict[str, Any]


class Row(Struct, frozen=True):
    """One of the seventeen."""

    theirs: str
    event: str
    """Ours: the subject less its last token."""
    proves: Callable[[Body, Evidence], Proof | None]


# --- batches ---


def _batch_started(body: Body, evidence: Evidence) -> Proof | None:
    if body["job_id"] == "whole" and body["actor"] is None and body["input_sha256"]:
        return _only(body, "job_id", "deadline")
    return None


def _batch_progress(body: Body, evidence: Evidence) -> Proof | None:
    """Amid it: all that ended is counted, however it ended, and the rest is still to come."""
    ended = sum(body["counts"][how] for how in ("completed", "failed", "cancelled"))
    amid = 0 < body["done"] == ended < body["total"] == len(VARIANTS)
    if body["job_id"] == "whole" and amid and body["elapsed_ms"] > 0 and body["per_second"] > 0:
        return _only(body, "done", "total", "per_second", "eta_ms")
    return None


def _batch_completed(body: Body, evidence: Evidence) -> Proof | None:
    best = max(VARIANTS, key=lambda name: peak(VARIANTS[name]))
    result = body["result"]
    if body["job_id"] == "whole" and result["best"] == {"name": best, "score": peak(VARIANTS[best])}:
        return {"best": result["best"], "duration_ms": body["duration_ms"]}
    return None


def _batch_failed(body: Body, evidence: Evidence) -> Proof | None:
    return _only(body, "error") if body["job_id"] == "broken" and "broken" in body["error"]["message"] else None


def _batch_cancelled(body: Body, evidence: Evidence) -> Proof | None:
    counts = body.get("counts", {})
    asked = (body["reason"], body["requested_by"])
    if body["job_id"] == "called-off" and asked == ("superseded", "somebody") and counts["cancelled"] == 1:
        return _only(body, "requested_by", "counts")
    return None


# --- pools and actors ---


def _pool_created(body: Body, evidence: Evidence) -> Proof | None:
    initialized = {each["actor"] for each in evidence.bodies("workers.actor.initialized")}
    if body["profile"] == "narrow" and len(body["actors"]) == 1 and set(body["actors"]) <= initialized:
        return _only(body, "actors", "memory") if body["memory"] == MEMORY else None
    return None


def _actor_initialized(body: Body, evidence: Evidence) -> Proof | None:
    """It is one of the pool's, and what Ray took to start a process is no blink."""
    pooled = {actor for pool in evidence.bodies("workers.pool.created") for actor in pool["actors"]}
    return _only(body, "actor", "duration_ms") if body["actor"] in pooled and body["duration_ms"] > 0 else None


def _actor_failed(body: Body, evidence: Evidence) -> Proof | None:
    """The actor on which the deadly job started, and the one job that it had finished before."""
    ran_on = {started["actor"] for started in evidence.bodies("orchestration.doom.started", job_id="deadly")}
    if {body["actor"]} == ran_on and body["jobs"] == ["doom.deadly"] and body["executions"] == 1:
        return {"jobs": body["jobs"], "executions": 1, "error": body["error"]["type"]}
    return None


def _actor_restarted(body: Body, evidence: Evidence) -> Proof | None:
    failed = {each["actor"] for each in evidence.bodies("workers.actor.failed")}
    initialized = {each["actor"] for each in evidence.bodies("workers.actor.initialized")}
    if body["replaces"] in failed and body["actor"] in initialized and body["restarts"] == 1 and body["reason"]:
        return _only(body, "replaces", "restarts")
    return None


# --- variants ---


def _variant_started(body: Body, evidence: Evidence) -> Proof | None:
    initialized = {each["actor"] for each in evidence.bodies("workers.actor.initialized")}
    if body["job_id"] == "whole-best" and body["parent"] == "batch.whole" and body["actor"] in initialized:
        return _only(body, "parent", "actor")
    return None


def _variant_completed(body: Body, evidence: Evidence) -> Proof | None:
    x = VARIANTS["best"]
    result = body["result"]
    if body["job_id"] == "whole-best" and (result["score"], result["metrics"]) == (peak(x), {"x": x}):
        return {"score": result["score"], "metrics": result["metrics"]}
    return None


def _variant_failed(body: Body, evidence: Evidence) -> Proof | None:
    error = body["error"]
    if body["job_id"] == "broken-broken" and (error["type"], error["message"]) == (
        "ValueError",
        "there is no curve at 1.0",
    ):
        return {"error": f"{error['type']}: {error['message']}"}
    return None


def _variant_cancelled(body: Body, evidence: Evidence) -> Proof | None:
    if body["job_id"] == "called-off-endless" and body["stage"] == "running":
        return _only(body, "stage", "reason")
    return None


def _files_tracked(body: Body, evidence: Evidence) -> Proof | None:
    """The one file that the pattern asks for, with the bytes that the workflow is known to write."""
    x = VARIANTS["best"]
    whole = [{"name": CURVE, "bytes": len(curve(x)), "sha256": digest(x)}]
    if body["job_id"] == "whole-best" and body["files"] == whole and body["commit"]:
        return {"commit": body["commit"][:12], "files": [file["name"] for file in body["files"]]}
    return None


def _files_tracking_failed(body: Body, evidence: Evidence) -> Proof | None:
    if body["job_id"] == "too-large-large" and body["files"] == [CURVE] and body["error"]["message"]:
        return {"files": body["files"], "error": body["error"]["message"]}
    return None


# --- pressure ---


def _pressure_applied(body: Body, evidence: Evidence) -> Proof | None:
    """Those behind the first wait for as long as that one is held."""
    full = body["depth"] >= HIGH == body["high"] and body["actors"] == 1
    if body["kind"] == "hold" and body["reason"] == "depth" and full and body["waited_ms"] > 0:
        return _only(body, "depth", "high", "waited_ms")
    return None


def _pressure_released(body: Body, evidence: Evidence) -> Proof | None:
    """None of what was held was completed when it began."""
    worked_off = HELD - LOW <= body["completed"] <= HELD
    if body["kind"] == "hold" and body["depth"] <= LOW == body["low"] and worked_off and body["lasted_ms"] > 0:
        return _only(body, "depth", "completed")
    return None


def _only(body: Body, *fields: str) -> Proof:
    return {name: body.get(name) for name in fields}


ROWS: Final = (
    Row("batch started", "orchestration.batch.started", _batch_started),
    Row("batch completed", "orchestration.batch.completed", _batch_completed),
    Row("batch failed", "orchestration.batch.failed", _batch_failed),
    Row("batch cancelled", "orchestration.batch.cancelled", _batch_cancelled),
    Row("batch progress", "orchestration.batch.progress", _batch_progress),
    Row("actor pool created", "workers.pool.created", _pool_created),
    Row("actor initialized", "workers.actor.initialized", _actor_initialized),
    Row("actor failed", "workers.actor.failed", _actor_failed),
    Row("actor restarted", "workers.actor.restarted", _actor_restarted),
    Row("variant started", "orchestration.variant.started", _variant_started),
    Row("variant completed", "orchestration.variant.completed", _variant_completed),
    Row("variant failed", "orchestration.variant.failed", _variant_failed),
    Row("variant cancelled", "orchestration.variant.cancelled", _variant_cancelled),
    Row("files tracked", "orchestration.variant.files_tracked", _files_tracked),
    Row("file tracking failed", "orchestration.variant.files_tracking_failed", _files_tracking_failed),
    Row("backpressure applied", "workers.backpressure.applied", _pressure_applied),
    Row("backpressure released", "workers.backpressure.released", _pressure_released),
)
"""In the order of their list."""
