"""Kind `plan`: an approved plan becomes one deliberation for each role."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

from contracts.deliberation import Constraints, Deliberation, Winner
from contracts.events import Completed
from contracts.plan import Council, Plan, PlanResult
from workers.kinds.registry import Child, ChildEnd, Fail, batch

__all__ = ["PlanConfig", "PlanKind"]

Role = Annotated[str, Meta(min_length=1)]


class PlanConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of kind `plan`."""

    roles: Annotated[
        list[Role], Meta(min_length=1, description="Roles of a plan that names none, one council each.")
    ] = msgspec.field(default_factory=lambda: ["ARCHITECT", "DEV", "QA"])

    def __post_init__(self) -> None:
        twice = sorted({role for role in self.roles if self.roles.count(role) > 1})
        if twice:
            raise ValueError(f"roles names {twice[0]!r} twice")


@batch("plan", id_field="plan_id", not_identity=("approved_by", "timestamp"))
class PlanKind:
    """One deliberation for each role of an approved plan; fails only if every one of them did."""

    def __init__(self, config: PlanConfig) -> None:
        self._config = config

    def expand(self, plan: Plan) -> Sequence[Child]:
        """One council a role, in the order of the roles."""
        roles = plan.roles or self._config.roles
        return [Child(key=role, kind="deliberation", input=_task(plan, role)) for role in roles]

    def reduce(self, plan: Plan, ends: Sequence[ChildEnd]) -> PlanResult | Fail:
        """How every role's council ended, in the order of the roles."""
        outcomes = [end.outcome for end in ends]
        if "completed" not in outcomes:
            told = "; ".join(f"{end.child.key} {end.outcome}{_because(end)}" for end in ends)
            cancelled = all(outcome == "cancelled" for outcome in outcomes)
            return Fail(f"no council completed: {told}", reason="cancelled_child" if cancelled else "dependency")
        return PlanResult(plan_id=plan.plan_id, story_id=plan.story_id, councils=[_council(end) for end in ends])


def _task(plan: Plan, role: str) -> Deliberation:
    return Deliberation(
        task_id=f"{plan.plan_id}-{role}",
        task_description=f"Implement plan {plan.plan_id} for story {plan.story_id}",
        role=role,
        constraints=Constraints(story_id=plan.story_id, plan_id=plan.plan_id),
    )


def _council(end: ChildEnd) -> Council:
    winner = _winner(end.event.result) if isinstance(end.event, Completed) else None
    return Council(
        role=end.child.key,
        job_id=end.job_id,
        outcome=end.outcome,
        winner=winner,
        score=None if winner is None else winner.score,
        error=end.error,
    )


class _Won(Struct, frozen=True):
    """The part of a deliberation's result that a plan tells. A result too large for its event has been moved away."""

    winner: Winner | None = None


def _winner(result: Raw) -> Winner | None:
    return msgspec.json.decode(result, type=_Won).winner


def _because(end: ChildEnd) -> str:
    return "" if end.error is None else f" ({end.error.reason}: {end.error.message})"
