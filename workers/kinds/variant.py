"""Kind `variant`: one run of a workflow, in a workspace of its own."""

from __future__ import annotations

from contracts.batch import Variant, VariantResult
from workers.kinds.context import JobContext
from workers.kinds.registry import job
from workers.kinds.workflow import Workflows, WorkflowsConfig

__all__ = ["VariantKind"]


@job("variant")
class VariantKind:
    """Runs a registered workflow with a variant's parameters; an actor to itself."""

    def __init__(self, config: WorkflowsConfig) -> None:
        self._workflows = Workflows(config)

    def run(self, ctx: JobContext, variant: Variant) -> VariantResult:
        """The score, the metrics and the output."""
        return self._workflows.named(variant.workflow).run(ctx, variant.parameters)
