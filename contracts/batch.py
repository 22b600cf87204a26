"""Kinds `batch` and `variant`: many variants of one piece of work, side by side, and which was best."""

from __future__ import annotations

import math
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from contracts.errors import ErrorInfo
from contracts.joins import ChildOutcome

__all__ = [
    "MOST_VARIANTS",
    "Batch",
    "BatchResult",
    "Best",
    "Files",
    "Listed",
    "Row",
    "Totals",
    "Variant",
    "VariantResult",
]

MOST_VARIANTS: Final = 100_000
"""What one batch may come to."""

Name = Annotated[str, Meta(min_length=1, max_length=256)]
Parameters = dict[str, Any]


class Files(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which files of a variant's `output/` are tracked."""

    include: Annotated[list[str], Meta(description="Patterns of names, as *.csv.")] = msgspec.field(
        default_factory=lambda: ["*"]
    )
    exclude: Annotated[list[str], Meta(description="Patterns of names among these that are not.")] = []
    max_bytes: Annotated[int, Meta(ge=1, description="Bytes of all of them together.")] = 100 * 1024 * 1024


class Listed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One variant by name."""

    name: Annotated[Name, Meta(description="Unique within the batch; the job's id is <batch_id>-<name>.")]
    parameters: Annotated[Parameters, Meta(description="What the workflow takes; of a kind, its whole input.")] = {}


class Batch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`jobs.batch`: one of `workflow` and `kind`, and one of `variants` and `matrix`."""

    batch_id: Annotated[str, Meta(min_length=1)]
    workflow: Annotated[Name | None, Meta(description="A registered workflow: variants are jobs of kind variant.")] = (
        None
    )
    kind: Annotated[Name | None, Meta(description="A registered kind: variants are its jobs.")] = None
    variants: list[Listed] = []
    matrix: Annotated[
        dict[Name, list[Any]], Meta(description="Parameter to its values: a variant for each combination.")
    ] = {}
    parallelism: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="Variants under way at once; null: as many as there is room for."),
    ] = None
    policy: Annotated[
        Literal["all", "fail_fast", "threshold"],
        Meta(
            description="all: every variant runs, and the batch fails only if none completed. fail_fast: the first "
            "that does not complete fails the batch. threshold: so large a share has to complete. Once fail_fast or "
            "threshold settle the outcome, the variants that go on are cancelled."
        ),
    ] = "all"
    threshold: Annotated[
        Annotated[float, Meta(gt=0, le=1)] | None, Meta(description="Of policy threshold: a share of all variants.")
    ] = None
    inputs: Annotated[
        dict[str, str], Meta(description="Of a workflow: file below input/ to the URI that it is staged from.")
    ] = {}
    files: Annotated[Files | None, Meta(description="Of a workflow: which files are tracked; null: none.")] = None

    def __post_init__(self) -> None:
        if (self.workflow is None) == (self.kind is None):
            raise ValueError("give either workflow or kind")
        if bool(self.variants) == bool(self.matrix):
            raise ValueError("give either variants or matrix")
        if (self.policy == "threshold") != (self.threshold is not None):
            raise ValueError("threshold is for policy threshold, and that needs it")
        if self.kind is not None and (self.inputs or self.files is not None):
            raise ValueError("inputs and files are for a workflow; a kind has its own input")
        count = len(self.variants) or math.prod(map(len, self.matrix.values()))
        if not 0 < count <= MOST_VARIANTS:
            raise ValueError(f"matrix comes to {count} variants; it must be 1 to {MOST_VARIANTS}")


class Variant(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`jobs.variant`: one run of a workflow."""

    workflow: Name
    name: Name
    parameters: Parameters = {}
    inputs: dict[str, str] = {}
    files: Files | None = None


class Totals(Struct, frozen=True, kw_only=True):
    """Files that were tracked, and their bytes."""

    count: int = 0
    bytes: int = 0


class VariantResult(Struct, frozen=True, kw_only=True):
    """What a workflow came to."""

    score: Annotated[float | None, Meta(description="The greater the better; null where the workflow gives none.")] = (
        None
    )
    metrics: dict[str, float] = {}
    output: Any = None
    files: Totals = Totals()


class Best(Struct, frozen=True, kw_only=True):
    """The completed variant with the greatest score, the first of several."""

    name: str
    score: float


class Row(Struct, frozen=True, kw_only=True):
    """One variant in the comparison."""

    name: str
    job_id: str
    outcome: ChildOutcome
    score: float | None = None
    metrics: dict[str, float] = {}
    files: Totals = Totals()
    error: ErrorInfo | None = None


class BatchResult(Struct, frozen=True, kw_only=True):
    """What a completed batch tells."""

    batch_id: str
    counts: Annotated[dict[str, int], Meta(description="completed, failed, cancelled, refused, total.")]
    best: Best | None
    comparison: Annotated[
        list[Row], Meta(description="The scored first, the best on top; then the others in their order.")
    ]
    files: Totals
