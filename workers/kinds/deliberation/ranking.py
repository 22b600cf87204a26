"""Scores to ranking to winner."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from contracts.deliberation import Critique, Ranked, Winner
from contracts.errors import bounded
from workers.kinds.deliberation.providers.base import Mark

__all__ = ["Candidate", "rank", "winner"]

_DIGITS = 4
_REASON_BYTES = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A proposal that stands, with its marks."""

    agent_id: str
    proposal: str
    critiques: Sequence[Critique]
    marks: Mapping[str, Mark]


def rank(candidates: Sequence[Candidate], rubric: Mapping[str, float]) -> list[Ranked]:
    """Best first. Where scores tie, the agent id that sorts first comes first."""
    ranked = [
        Ranked(
            agent_id=candidate.agent_id,
            proposal=candidate.proposal,
            score=_mean({name: candidate.marks[name].score for name in rubric}, rubric),
            scores={name: round(candidate.marks[name].score, _DIGITS) for name in rubric},
            critiques=list(candidate.critiques),
        )
        for candidate in candidates
    ]
    return sorted(ranked, key=lambda one: (-one.score, one.agent_id))


def winner(ranking: Sequence[Ranked], candidates: Sequence[Candidate], rubric: Mapping[str, float]) -> Winner:
    """The head of the ranking, and why it is."""
    best = ranking[0]
    marks = next(candidate.marks for candidate in candidates if candidate.agent_id == best.agent_id)
    sentences = [_standing(ranking), *(_judged(name, marks[name], rubric[name]) for name in rubric)]
    return Winner(agent_id=best.agent_id, proposal=best.proposal, score=best.score, reasoning=" ".join(sentences))


def _mean(scores: Mapping[str, float], weights: Mapping[str, float]) -> float:
    # Weights are relative to the greatest, so that huge ones do not add up to infinity.
    most = max(weights.values())
    relative = {name: weight / most for name, weight in weights.items()}
    total = math.fsum(relative[name] * scores[name] for name in weights)
    return round(total / math.fsum(relative.values()), _DIGITS)


def _standing(ranking: Sequence[Ranked]) -> str:
    best, *others = ranking
    if not others:
        return f"{best.agent_id} has the only proposal that stands, at {best.score:g}."
    tied = [one.agent_id for one in others if one.score == best.score]
    if tied:
        names = ", ".join(tied)
        return f"{best.agent_id} ties with {names} at {best.score:g}; a tie goes to the agent id that sorts first."
    second = others[0]
    gaps = {name: best.scores[name] - second.scores[name] for name in best.scores}
    name = max(gaps, key=lambda criterion: gaps[criterion])
    return (
        f"{best.agent_id} leads with {best.score:g}, {second.agent_id} follows with {second.score:g}; "
        f"the widest lead is in {name}, {best.scores[name]:g} against {second.scores[name]:g}."
    )


def _judged(name: str, mark: Mark, weight: float) -> str:
    return f"{name} (weight {weight:g}): {mark.score:.4g}, {bounded(mark.reason, _REASON_BYTES).rstrip('.')}."
