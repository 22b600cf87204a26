"""Kind `plan`: an approved plan becomes one deliberation for each role."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from contracts.deliberation import Winner
from contracts.errors import ErrorInfo
from contracts.joins import ChildOutcome

__all__ = ["Council", "Plan", "PlanResult"]

Name = Annotated[str, Meta(min_length=1)]


class Plan(Struct, frozen=True, kw_only=True):
    """`planning.plan.approved`. A foreign domain event: fields not named here are ignored."""

    story_id: Name
    plan_id: Name
    approved_by: Annotated[Name, Meta(description="Not part of the plan's identity: approved twice is one plan.")]
    timestamp: Annotated[Name, Meta(description="Not part of the plan's identity either.")]
    roles: Annotated[list[Name], Meta(description="One council each; empty means the settings' roles.")] = []


class Council(Struct, frozen=True, kw_only=True):
    """How one role's council ended."""

    role: str
    job_id: str
    outcome: ChildOutcome
    winner: Winner | None
    score: float | None
    error: ErrorInfo | None


class PlanResult(Struct, frozen=True, kw_only=True):
    """What a completed plan tells: every role's outcome."""

    plan_id: str
    story_id: str
    councils: list[Council]
