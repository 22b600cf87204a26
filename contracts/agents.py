"""What agents of a council say, on `agent.response.{completed,failed,progress}.<job_id>`. Outside any log: no `n`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

from contracts.errors import ErrorInfo

__all__ = ["TOPIC", "AgentResponse", "Phase", "Status"]

TOPIC = "response"

Phase = Literal["propose", "criticise", "revise", "score"]
Status = Literal["completed", "failed", "progress"]


class AgentResponse(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One agent's word: `completed` or `failed` once an agent, `progress` once a phase."""

    task_id: str
    agent_id: str
    """The agent; for `progress`, which tells of the whole council, the council's role in lower case."""
    role: str
    phase: Phase
    round: Annotated[int, Meta(ge=0)]
    """From 1; 0 for what belongs to no round (the first proposals and the final scores)."""
    status: Status
    duration_ms: Annotated[int, Meta(ge=0)]
    timestamp: Annotated[datetime, Meta(tz=True)]
    model: str
    provider: str
    proposal: str | None = None
    error: ErrorInfo | None = None
