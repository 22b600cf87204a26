"""Kind `variant`: one run of a workflow, in a workspace of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec.structs import replace

from contracts.batch import Files, Totals, Variant, VariantResult
from workers.kinds.context import JobContext
from workers.kinds.registry import job
from workers.kinds.workflow import Workflows, WorkflowsConfig

__all__ = ["VariantKind"]


@job("variant")
class VariantKind:
    """Runs a registered workflow with a variant's parameters, one at a time in its actor."""

    def __init__(self, config: WorkflowsConfig) -> None:
        self._workflows = Workflows(config)

    def company(self, variant: Variant) -> str | None:
        """Nothing is heard of a workflow without a context before its end: variants of it may share a call."""
        plain = self._workflows.is_plain(variant.workflow) and not variant.inputs and variant.files is None
        return variant.workflow if plain else None

    def run(self, ctx: JobContext, variant: Variant) -> VariantResult:
        """The score, the metrics and the output; `input/` is staged before, and files are tracked, failed or not."""
        workflow = self._workflows.named(variant.workflow)
        if variant.inputs:
            ctx.stage(variant.inputs)
        if variant.files is None:
            return workflow.run(ctx, variant.parameters)
        tracked: list[Totals] = []
        with _tracking(ctx, variant.files, tracked):
            result = workflow.run(ctx, variant.parameters)
        return replace(result, files=tracked[0])


@contextmanager
def _tracking(ctx: JobContext, files: Files, tracked: list[Totals]) -> Iterator[None]:
    """Track what is there at the end, also where that is an error."""
    try:
        yield
    finally:
        commit = ctx.track(files.include, files.exclude, min(files.max_bytes, sys.maxsize))
        tracked.append(Totals() if commit is None else Totals(count=len(commit.files), bytes=commit.bytes))
