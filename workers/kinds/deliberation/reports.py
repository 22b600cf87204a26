"""What a council says while it works: `agent.response.*` outside the log, and progress in it."""

from __future__ import annotations

from datetime import UTC, datetime

from contracts.agents import TOPIC, AgentResponse, Phase, Status
from contracts.errors import ErrorInfo
from workers.kinds.context import JobContext
from workers.kinds.deliberation.providers.base import Model
from workers.kinds.deliberation.terms import Seat, Terms

__all__ = ["Reports", "models_of"]


def models_of(terms: Terms, model: Model) -> str:
    """The names of the models that answer for the seats, each once."""
    return ", ".join(dict.fromkeys(model.model_for(seat) for seat in terms.seats))


class Reports:
    """Speaks for one council."""

    def __init__(self, context: JobContext, terms: Terms, model: Model) -> None:
        self._context = context
        self._terms = terms
        self._model = model
        # One phase to propose, one to score, and between them two a round, if there is anybody to review.
        self._phases = 2 + (2 * terms.rounds if len(terms.seats) > 1 else 0)
        self._done = 0

    def began(self) -> None:
        """Nothing is done yet."""
        self._progress("propose", f"{len(self._terms.seats)} agents")

    def phase_ended(self, phase: Phase, round_: int, seconds: float, standing: int) -> None:
        """A phase is over, and `standing` agents still stand."""
        # Rounds that found too few agents to review never come: the scores are the last phase all the same.
        self._done = self._phases if phase == "score" else self._done + 1
        role = self._terms.task.role
        model = self._model.model_for(None) if phase == "score" else models_of(self._terms, self._model)
        self._emit("progress", role.lower(), role, phase, round_, seconds, model)
        self._progress(phase, f"{standing} of {len(self._terms.seats)} agents stand")

    def agent_completed(self, seat: Seat, phase: Phase, round_: int, seconds: float, proposal: str) -> None:
        """The agent's proposal stands at the end; it was last written in this phase and round."""
        model = self._model.model_for(seat)
        self._emit("completed", seat.agent_id, seat.role, phase, round_, seconds, model, proposal=proposal)

    def agent_failed(self, seat: Seat, phase: Phase, round_: int, seconds: float, error: ErrorInfo) -> None:
        """The agent failed, in this phase and round."""
        model = self._model.model_for(seat)
        self._emit("failed", seat.agent_id, seat.role, phase, round_, seconds, model, error=error)

    def _progress(self, phase: Phase, message: str) -> None:
        self._context.progress(done=self._done, total=self._phases, step=phase, message=message)

    def _emit(
        self,
        status: Status,
        agent_id: str,
        role: str,
        phase: Phase,
        round_: int,
        seconds: float,
        model: str,
        *,
        proposal: str | None = None,
        error: ErrorInfo | None = None,
    ) -> None:
        response = AgentResponse(
            task_id=self._terms.task_id,
            agent_id=agent_id,
            role=role,
            phase=phase,
            round=round_,
            status=status,
            duration_ms=round(seconds * 1000),
            timestamp=datetime.now(UTC),
            model=model,
            provider=self._model.provider,
            proposal=proposal,
            error=error,
        )
        self._context.emit(f"{TOPIC}.{status}", response)
