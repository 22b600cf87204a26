"""The kind itself: from message to result."""

from __future__ import annotations

import anyio

from contracts.deliberation import Deliberation, DeliberationResult
from workers.kinds.context import JobContext
from workers.kinds.deliberation.config import DeliberationConfig
from workers.kinds.deliberation.council import Council, Verdict
from workers.kinds.deliberation.errors import DeadlineExceeded
from workers.kinds.deliberation.providers import open_model
from workers.kinds.deliberation.providers.base import Model
from workers.kinds.deliberation.reports import Reports, models_of
from workers.kinds.deliberation.terms import Terms, settle
from workers.kinds.registry import Fail, job

__all__ = ["DeliberationKind"]


@job("deliberation", id_field="task_id")
class DeliberationKind:
    """A council of agents proposes, criticises, revises and is scored; the best proposal wins, with reasons.

    What the message leaves out comes from the settings of the role's council. Fails with reason `quorum` where too few
    agents answer, `deadline` where `constraints.timeout_seconds` is over, `config` where the settings forbid it.
    """

    def __init__(self, config: DeliberationConfig) -> None:
        self._config = config

    async def run(self, ctx: JobContext, task: Deliberation) -> DeliberationResult | Fail:
        """One council, from the first proposals to a winner."""
        terms = settle(task, self._config.council_for(task.role))
        async with open_model(terms, self._config.providers) as model:
            council = Council(terms, model, Reports(ctx, terms, model))
            with anyio.move_on_after(terms.timeout_s):
                return _result(terms, model, await council.deliberate())
            overdue = DeadlineExceeded(terms.timeout_s or 0.0)
            council.give_up(overdue)
            return overdue


def _result(terms: Terms, model: Model, verdict: Verdict) -> DeliberationResult:
    return DeliberationResult(
        task_id=terms.task_id,
        role=terms.task.role,
        provider=model.provider,
        model=models_of(terms, model),
        winner=verdict.winner,
        ranking=verdict.ranking,
        rounds=verdict.rounds,
        total_agents=len(terms.seats),
        successful_responses=len(verdict.ranking),
        failed_responses=len(verdict.failed),
        failed_agents=verdict.failed,
    )
