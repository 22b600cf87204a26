"""Kind `batch`: many variants of one workflow, or of any kind, side by side."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec
from msgspec import Struct

from contracts.batch import Batch, BatchResult, Best, Listed, Row, Totals, Variant
from contracts.events import Completed
from contracts.tokens import short_hash
from workers.kinds.outcomes import FailReason
from workers.kinds.registry import Child, ChildEnd, Fail, batch
from workers.kinds.workflow import Workflows, WorkflowsConfig

__all__ = ["BatchKind"]

NAME_LENGTH: Final = 200
"""Characters of a name that is made of a matrix's values."""


@batch("batch", id_field="batch_id")
class BatchKind:
    """Runs variants of one workflow, or of one kind, side by side: progress, policy, and which was best."""

    def __init__(self, config: WorkflowsConfig) -> None:
        self._workflows = Workflows(config)

    def expand(self, asked: Batch) -> Sequence[Child]:
        """A child for each variant, in their order; those of a matrix count its last parameter fastest."""
        variants = asked.variants or _combinations(asked.matrix)
        if asked.kind is not None:
            return [Child(key=it.name, kind=asked.kind, input=it.parameters) for it in variants]
        assert asked.workflow is not None
        # Here, and not in ten thousand variants.
        self._workflows.named(asked.workflow)
        return [Child(key=it.name, kind="variant", input=_variant(asked, asked.workflow, it)) for it in variants]

    def parallelism(self, asked: Batch) -> int | None:
        """As asked for."""
        return asked.parallelism

    def settled(self, asked: Batch, counts: Mapping[str, int]) -> str | None:
        """Whether what comes can change the outcome; by `all` every variant runs."""
        lost, total = counts["failed"] + counts["cancelled"] + counts["refused"], sum(counts.values())
        if asked.policy == "all":
            return None
        if counts["completed"] >= _least(asked, total):
            return f"{counts['completed']} of {total} variants have completed, and their batch needs no more"
        if total - lost < _least(asked, total):
            return f"{lost} of {total} variants did not complete, which fails their batch (policy {asked.policy})"
        return None

    def outline(self, end: ChildEnd) -> Row:
        """A variant's row in the comparison."""
        told = _told(end.event) if isinstance(end.event, Completed) else _Told()
        return Row(
            name=end.child.key,
            job_id=end.job_id,
            outcome=end.outcome,
            score=told.score,
            metrics=told.metrics,
            files=told.files,
            error=end.error,
        )

    def reduce(self, asked: Batch, rows: Sequence[Row]) -> BatchResult | Fail:
        """The comparison and the best, or why the batch failed."""
        counts = dict.fromkeys(("completed", "failed", "cancelled", "refused"), 0)
        for row in rows:
            counts[row.outcome] += 1
        if counts["completed"] < _least(asked, len(rows)):
            return Fail(_why(asked, rows, counts), reason=_reason(rows))
        ranked = sorted((row for row in rows if row.score is not None), key=_score, reverse=True)
        return BatchResult(
            batch_id=asked.batch_id,
            counts={**counts, "total": len(rows)},
            best=Best(name=ranked[0].name, score=_score(ranked[0])) if ranked else None,
            comparison=[*ranked, *(row for row in rows if row.score is None)],
            files=Totals(count=sum(row.files.count for row in rows), bytes=sum(row.files.bytes for row in rows)),
        )


def _combinations(matrix: Mapping[str, list[Any]]) -> list[Listed]:
    combinations = [dict(zip(matrix, values, strict=True)) for values in itertools.product(*matrix.values())]
    names = [_name(parameters, _text) for parameters in combinations]
    if len(set(names)) < len(names):
        # Texts that read as other values, as "1" and 1. Those in quotes do not.
        names = [_name(parameters, _json) for parameters in combinations]
    return [Listed(name=name, parameters=each) for name, each in zip(names, combinations, strict=True)]


def _name(parameters: Mapping[str, Any], told: Callable[[Any], str]) -> str:
    """Of a combination. One that is long, as of prompts, still differs from the others."""
    name = ",".join(f"{key}={told(value)}" for key, value in parameters.items())
    return name if len(name) <= NAME_LENGTH else f"{name[: NAME_LENGTH - 20]}... {short_hash(name)}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _variant(asked: Batch, workflow: str, listed: Listed) -> Variant:
    return Variant(
        workflow=workflow, name=listed.name, parameters=listed.parameters, inputs=asked.inputs, files=asked.files
    )


def _least(asked: Batch, total: int) -> int:
    """How many variants must complete."""
    if asked.threshold is not None:
        # Less what a float is off: 0.7 of 10 are 7.
        return math.ceil(asked.threshold * total - 1e-9)
    return total if asked.policy == "fail_fast" else 1


class _Told(Struct, frozen=True):
    """The part of a variant's result that a comparison shows. Of any kind: whatever it calls so."""

    score: float | None = None
    metrics: dict[str, float] = {}
    files: Totals = Totals()


def _told(end: Completed) -> _Told:
    """Another kind's result may be anything: what does not fit is left out."""
    try:
        said = msgspec.json.decode(end.result, type=dict[str, Any])
    except msgspec.ValidationError:
        return _Told()
    fitting: dict[str, Any] = {}
    for field in msgspec.structs.fields(_Told):
        with suppress(msgspec.ValidationError, KeyError):
            fitting[field.name] = msgspec.convert(said[field.name], field.type)
    return _Told(**fitting)


def _score(row: Row) -> float:
    assert row.score is not None
    return row.score


def _why(asked: Batch, rows: Sequence[Row], counts: Mapping[str, int]) -> str:
    lost = [row for row in rows if row.outcome != "completed"]
    # Those that were cancelled because of it come after.
    first = next((row for row in lost if row.outcome != "cancelled"), lost[0])
    because = "" if first.error is None else f" ({first.error.reason}: {first.error.message})"
    told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    needed = f"policy {asked.policy} needs {_least(asked, len(rows))} of {len(rows)}"
    return f"{first.name} {first.outcome}{because}; {told}; {needed}"


def _reason(rows: Sequence[Row]) -> FailReason:
    return "cancelled_child" if all(row.outcome == "cancelled" for row in rows) else "dependency"
