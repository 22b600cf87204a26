"""What the settings and one message come to: the terms on which a council works. What the message says wins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from contracts.deliberation import Deliberation
from workers.kinds.deliberation.config import MAX_AGENTS, Council, Member
from workers.kinds.deliberation.errors import BadTask, Misconfigured

__all__ = ["Seat", "Task", "Terms", "settle"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What the agents are told."""

    description: str
    role: str
    rubric: Mapping[str, float]
    """Criterion to weight; never empty."""
    about: Mapping[str, Any]
    """What else the message says of the task: its story, its plan, its metadata."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """One agent's place in the council."""

    index: int
    agent_id: str
    role: str
    stance: str
    model: str | None
    """None: the council's."""
    prompt_template: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How one council works."""

    task_id: str
    task: Task
    provider: str
    model: str
    """Empty: the provider's own."""
    seats: tuple[Seat, ...]
    rounds: int
    quorum: int
    call_timeout_s: float
    answer_bytes: int
    timeout_s: float | None
    """For the whole deliberation."""
    max_retries: int | None
    """Of one call; None: the provider's setting."""


def settle(message: Deliberation, council: Council) -> Terms:
    """The terms for `message` in a role that has `council`. Raises `BadTask` or `Misconfigured`."""
    seats = _seats(message, council)
    constraints = message.constraints
    about = {"story_id": constraints.story_id, "plan_id": constraints.plan_id, "metadata": constraints.metadata or None}
    return Terms(
        task_id=message.task_id,
        task=Task(
            description=message.task_description,
            role=message.role,
            rubric=message.rubric or council.rubric,
            about={name: value for name, value in about.items() if value is not None},
        ),
        provider=council.provider,
        model=council.model,
        seats=seats,
        rounds=council.rounds if message.rounds is None else message.rounds,
        quorum=_quorum(message, council, len(seats)),
        call_timeout_s=council.call_timeout_s,
        answer_bytes=council.answer_bytes,
        timeout_s=constraints.timeout_seconds,
        max_retries=constraints.max_retries,
    )


def _seats(message: Deliberation, council: Council) -> tuple[Seat, ...]:
    seats = tuple(
        Seat(
            index=index,
            agent_id=member.id,
            role=member.role or message.role,
            stance=member.stance or council.stances[index % len(council.stances)],
            model=member.model,
            prompt_template=member.prompt_template,
        )
        for index, member in enumerate(_members(message, council))
    )
    ids = [seat.agent_id for seat in seats]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice:
        raise BadTask(f"agents: the council has {twice[0]!r} twice")
    return seats


def _members(message: Deliberation, council: Council) -> list[Member]:
    """The message's own agents, else as many as it or the settings want: the named ones first."""
    if message.agents:
        if message.num_agents is not None and message.num_agents != len(message.agents):
            raise BadTask(f"agents names {len(message.agents)} members and num_agents is {message.num_agents}")
        if len(message.agents) > MAX_AGENTS:
            raise BadTask(f"agents names {len(message.agents)} members, the limit is {MAX_AGENTS}")
        return [
            Member(id=agent.id, role=agent.role, model=agent.model, prompt_template=agent.prompt_template)
            for agent in message.agents
        ]
    size = council.num_agents if message.num_agents is None else message.num_agents
    named = council.agents[:size]
    return named + [Member(id=f"agent-{message.role.lower()}-{n:03d}") for n in range(len(named) + 1, size + 1)]


def _quorum(message: Deliberation, council: Council, agents: int) -> int:
    if message.quorum is not None:
        if message.quorum > agents:
            raise BadTask(f"quorum is {message.quorum}, and the council has {agents} agents")
        return message.quorum
    if council.quorum == "majority":
        return agents // 2 + 1
    if council.quorum > agents:
        raise Misconfigured(
            f"setting council.quorum is {council.quorum}, and this council of {message.role} has {agents} agents: "
            "give a quorum with the message, or set it to majority"
        )
    return council.quorum
