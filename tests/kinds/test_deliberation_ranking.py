"""Scores to ranking to winner."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.kinds.deliberation.providers.base import Mark
from workers.kinds.deliberation.ranking import Candidate, rank, winner


def candidate(name: str, **scores: float) -> Candidate:
    marks = {criterion: Mark(score, f"{criterion} of {name}.") for criterion, score in scores.items()}
    return Candidate(agent_id=name, proposal=f"by {name}", critiques=[], marks=marks)


def test_the_score_is_the_weighted_mean():
    ranking = rank([candidate("a", quality=1.0, tests=0.0)], {"quality": 3, "tests": 1})
    assert ranking[0].score == 0.75
    assert ranking[0].scores == {"quality": 1.0, "tests": 0.0}


def test_the_best_comes_first_and_the_reasons_say_why():
    rubric = {"quality": 0.5, "tests": 0.5}
    candidates = [candidate("a", quality=0.9, tests=0.2), candidate("b", quality=0.8, tests=0.7)]
    ranking = rank(candidates, rubric)
    assert [one.agent_id for one in ranking] == ["b", "a"]
    best = winner(ranking, candidates, rubric)
    assert (best.agent_id, best.proposal, best.score) == ("b", "by b", 0.75)
    assert best.reasoning == (
        "b leads with 0.75, a follows with 0.55; the widest lead is in tests, 0.7 against 0.2. "
        "quality (weight 0.5): 0.8, quality of b. tests (weight 0.5): 0.7, tests of b."
    )


def test_a_tie_goes_to_the_id_that_sorts_first_and_is_told():
    candidates = [candidate(name, quality=0.5) for name in ("c", "b", "a")] + [candidate("0", quality=0.1)]
    ranking = rank(candidates, {"quality": 1})
    assert [one.agent_id for one in ranking] == ["a", "b", "c", "0"]
    reasoning = winner(ranking, candidates, {"quality": 1}).reasoning
    assert reasoning.startswith("a ties with b, c at 0.5; a tie goes to the agent id that sorts first.")


def test_what_differs_beyond_what_is_shown_is_a_tie():
    ranking = rank([candidate("b", quality=0.50001), candidate("a", quality=0.50002)], {"quality": 1})
    assert [one.score for one in ranking] == [0.5, 0.5]
    assert ranking[0].agent_id == "a"


def test_one_proposal_wins_and_says_that_it_was_alone():
    candidates = [candidate("a", quality=0.5)]
    best = winner(rank(candidates, {"quality": 1}), candidates, {"quality": 1})
    assert best.reasoning.startswith("a has the only proposal that stands, at 0.5.")


def test_long_reasons_are_bounded():
    one = Candidate(agent_id="a", proposal="p", critiques=[], marks={"quality": Mark(0.5, "x" * 10_000)})
    assert len(winner(rank([one], {"quality": 1}), [one], {"quality": 1}).reasoning) < 600


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=6),
    st.lists(st.floats(min_value=0, exclude_min=True, allow_infinity=False), min_size=6, max_size=6),
)
def test_scores_stay_within_their_criteria_whatever_the_weights(scores: list[float], weights: list[float]):
    rubric = {str(i): weights[i] for i in range(len(scores))}
    score = rank([candidate("a", **{str(i): s for i, s in enumerate(scores)})], rubric)[0].score
    assert min(scores) - 1e-4 <= score <= max(scores) + 1e-4


@pytest.mark.parametrize("order", [1, -1])
def test_the_order_of_asking_does_not_matter(order: int):
    candidates = [candidate(name, quality=score) for name, score in (("a", 0.2), ("b", 0.9), ("c", 0.2))][::order]
    assert [one.agent_id for one in rank(candidates, {"quality": 2})] == ["b", "a", "c"]
