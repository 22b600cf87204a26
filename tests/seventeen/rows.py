"""The seventeen: what the other system called each, our event, and what a message must tell to prove it.

Each `proves` returns the fields that prove it, or nothing: an event that says less than what happened is none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

import msgspec
from msgspec import Struct

from tests.seventeen.asked import HELD, HIGH, LOW, MEMORY, VARIANTS, WHOLE
from tests.seventeen.evidence import Evidence
from tests.seventeen.workflows import ASTRAY, CURVE, curve, peak
from workers.kinds.registry import load

__all__ = ["ROWS", "Row"]

Body = dict[str, Any]
Proof = dict[str, Any]
BATCH: Final = load([])["batch"].spec
"""How a batch's input is read."""


class Row(Struct, frozen=True):
    """One of the seventeen."""

    theirs: str
    event: str
    """Ours: the subject less its last token."""
    proves: Callable[[Body, Evidence], Proof | None]


# --- batches ---


def _batch_started(body: Body, evidence: Evidence) -> Proof | None:
    """What was asked for, told by its hash; before any of its variants, and on no actor."""
    asked = BATCH.digest(BATCH.decode(msgspec.json.encode(WHOLE)))
    variants = [each["time"] for each in evidence.bodies("orchestration.variant.started", parent="batch.whole")]
    first = len(variants) == len(VARIANTS) and body["time"] < min(variants)
    if body["job_id"] == "whole" and body["actor"] is None and body["input_sha256"] == asked and first:
        return {"input_sha256": asked[:12], "waited_ms": body["waited_ms"]}
    return None


def _batch_progress(body: Body, evidence: Evidence) -> Proof | None:
    """All but the last variant have ended; that one may be under way by now or not yet."""
    counts = body["counts"]
    amid = body["done"] == counts["completed"] == len(VARIANTS) - 1 and body["total"] == len(VARIANTS)
    if body["job_id"] == "whole" and amid and counts["in_progress"] <= counts["open"] == 1:
        told = body["elapsed_ms"] > 0 and body["per_second"] > 0 and body["eta_ms"] > 0
        return _only(body, "done", "total", "per_second", "eta_ms") if told else None
    return None


def _batch_completed(body: Body, evidence: Evidence) -> Proof | None:
    """The right one is best, the table has all in the right order, and every file counts."""
    result = body["result"]
    scores = [(name, peak(VARIANTS[name])) for name in sorted(VARIANTS, key=lambda it: -peak(VARIANTS[it]))]
    table = [(row["name"], row["score"]) for row in result["comparison"]]
    counts = {"completed": 4, "failed": 0, "cancelled": 0, "refused": 0, "total": 4}
    files = {"count": len(VARIANTS), "bytes": sum(len(curve(x)) for x in VARIANTS.values())}
    if body["job_id"] == "whole" and (table, result["counts"], result["files"]) == (scores, counts, files):
        best = dict(zip(("name", "score"), scores[0], strict=True))
        return {"best": best, "files": files} if result["best"] == best and body["duration_ms"] > 0 else None
    return None


def _batch_failed(body: Body, evidence: Evidence) -> Proof | None:
    """It names the variant at which it failed, and why that one did."""
    counts, because = body["counts"], "bad failed (user: there is no curve at 1.0)"
    if body["job_id"] == "broken" and body["error"]["message"].startswith(because):
        return {"error": because, "counts": _some(counts)} if (counts["failed"], counts["open"]) == (1, 0) else None
    return None


def _batch_cancelled(body: Body, evidence: Evidence) -> Proof | None:
    asked, counts = (body["reason"], body["requested_by"]), body["counts"]
    ended = (counts["completed"], counts["cancelled"], counts["cancelled_running"], counts["open"])
    if body["job_id"] == "called-off" and asked == ("superseded", "somebody") and ended == (1, 1, 1, 0):
        return {"requested_by": body["requested_by"], "counts": _some(counts)}
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
    x, result = VARIANTS["best"], body["result"]
    files = {"count": 1, "bytes": len(curve(x))}
    made = {"score": peak(x), "metrics": {"x": x}, "output": None, "files": files}
    if body["job_id"] == "whole-best" and result == made:
        return {**_only(result, "score", "metrics", "files"), "duration_ms": body["duration_ms"]}
    return None


def _variant_failed(body: Body, evidence: Evidence) -> Proof | None:
    error = body["error"]
    if body["job_id"] == "broken-bad" and (error["type"], error["message"]) == (
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
    """The one file that the pattern asks for; the store has the bytes that the workflow is known to write."""
    data = curve(VARIANTS["best"])
    sha256 = hashlib.sha256(data).hexdigest()
    whole = [{"name": CURVE, "bytes": len(data), "sha256": sha256}]
    if body["job_id"] == "whole-best" and body["files"] == whole and evidence.kept.get(sha256) == data:
        return {"commit": body["commit"][:12], "files": [CURVE]}
    return None


def _files_tracking_failed(body: Body, evidence: Evidence) -> Proof | None:
    """The link is named, and the job went on all the same."""
    ends = evidence.bodies("orchestration.variant.completed", job_id="linked-astray")
    files = [each["result"]["files"] for each in ends]
    if body["job_id"] == "linked-astray" and body["files"] == [ASTRAY] and files == [{"count": 0, "bytes": 0}]:
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


def _some(counts: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}


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
