"""The kinds that ship, described from the contract's own types, and some odd ones."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from contracts.catalogue import KindInfo, describe
from contracts.deliberation import Deliberation, DeliberationResult
from contracts.plan import Plan, PlanResult

__all__ = ["DELIBERATION", "ODD", "PLAN", "SHIPPED", "kind"]


def kind(name: str, input_type: Any, result_type: Any = None, **changes: Any) -> KindInfo:
    """A kind that has nothing remarkable but its types and `changes`."""
    given: dict[str, Any] = {
        "version": "1",
        "id_field": None,
        "routes": [],
        "profile": "default",
        "deadline_s": 600,
        "max_attempts": 3,
    }
    return describe(**{"name": name, "input_type": input_type, "result_type": result_type, **given, **changes})


PLAN = kind(
    "plan",
    Plan,
    PlanResult,
    id_field="plan_id",
    routes=["planning.plan.approved"],
    profile=None,
    deadline_s=86_400,
    batch=True,
    doc="An approved plan becomes one deliberation for each role.",
)
DELIBERATION = kind(
    "deliberation",
    Deliberation,
    DeliberationResult,
    id_field="task_id",
    doc="A council of agents proposes, criticises, revises and scores.\n\nMore of it.",
)
SHIPPED = (PLAN, DELIBERATION)


class Agent(Struct):
    """Another than the council's, under the same name."""

    badge: int
    chief: Agent | None = None


class Domain(Struct, forbid_unknown_fields=True):
    """A foreign event that tells its own type."""

    event_type: str
    agents: list[Agent] = []
    place: tuple[float, float] = (0.0, 0.0)


ODD = (
    kind("domain", Domain, Agent, routes=["orders.*.placed.>", "orders.a", "stock.*.*"]),
    kind("number", int, str | None),
    kind("untyped", Any, Any),
    kind("log", dict[str, Agent]),
)
