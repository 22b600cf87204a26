"""Kind `deliberation`: a council of agents proposes, criticises, revises and scores.

What a field of an input means stands in its type, so that the JSON Schema in KV `kinds` says it too.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from contracts.errors import ErrorInfo

__all__ = [
    "Agent",
    "Constraints",
    "Critique",
    "Deliberation",
    "DeliberationResult",
    "FailedAgent",
    "Ranked",
    "Winner",
]

Name = Annotated[str, Meta(min_length=1)]
Weight = Annotated[float, Meta(gt=0)]
Seconds = Annotated[float, Meta(gt=0)]
Retries = Annotated[int, Meta(ge=0, le=10)]
Rounds = Annotated[int, Meta(ge=0, le=20)]
Seats = Annotated[int, Meta(ge=1, le=64)]
Quorum = Annotated[int, Meta(ge=1)]


def _says(description: str) -> Meta:
    return Meta(description=description)


class Agent(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One member of a council. What is left out is the settings' to fill in."""

    id: Name
    role: str | None = None
    model: str | None = None
    prompt_template: Annotated[
        str | None, _says("May hold `{task_description}`, `{role}`, `{agent_id}` and `{stance}`.")
    ] = None


class Constraints(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the task is bound by."""

    story_id: str | None = None
    plan_id: str | None = None
    timeout_seconds: Annotated[
        Seconds | None, _says("For the whole deliberation; the job's deadline holds all the same.")
    ] = None
    max_retries: Annotated[Retries | None, _says("Of one call to the model.")] = None
    metadata: dict[str, Any] = {}


class Deliberation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`jobs.deliberation`. One of our own commands: unknown fields are refused."""

    task_id: Name
    task_description: Name
    role: Name
    rounds: Annotated[
        Rounds | None,
        _says("Rounds of peer review, the settings' unless given (1). Fewer than two agents skip them."),
    ] = None
    num_agents: Annotated[Seats | None, _says("Size of the council, the settings' unless given (3).")] = None
    agents: Annotated[list[Agent], _says("Named members; empty means `num_agents` of `agent-<role>-<001>`.")] = []
    rubric: Annotated[dict[Name, Weight], _says("Criterion to weight; empty means the settings'.")] = {}
    constraints: Constraints = Constraints()
    quorum: Annotated[Quorum | None, _says("Agents that must succeed, the settings' unless given (the majority).")] = (
        None
    )


class Winner(Struct, frozen=True, kw_only=True):
    """The proposal that won, and why."""

    agent_id: str
    proposal: str
    score: float
    reasoning: str


class Critique(Struct, frozen=True, kw_only=True):
    """What one agent said of another's proposal."""

    agent_id: str
    """Who criticised."""
    round: int
    critique: str


class Ranked(Struct, frozen=True, kw_only=True):
    """One proposal in the ranking."""

    agent_id: str
    proposal: str
    score: float
    """Weighted mean of `scores`, 0 to 1."""
    scores: dict[str, float]
    """Criterion to score, 0 to 1."""
    critiques: list[Critique]


class FailedAgent(Struct, frozen=True, kw_only=True):
    """An agent that failed; it never stands as a proposal."""

    agent_id: str
    error: ErrorInfo


class DeliberationResult(Struct, frozen=True, kw_only=True):
    """What a council came to."""

    task_id: str
    role: str
    provider: str
    model: str
    winner: Winner
    ranking: list[Ranked]
    """Best first; the winner is its head."""
    rounds: int
    """Rounds of peer review that took place."""
    total_agents: int
    successful_responses: int
    failed_responses: int
    failed_agents: list[FailedAgent]
