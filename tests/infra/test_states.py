"""`infra.pool.states`: what may become of an actor."""

from __future__ import annotations

import pytest

from infra.pool.states import TRANSITIONS, ActorState, count, moved

S = ActorState


def test_every_state_leads_to_its_end() -> None:
    assert set(TRANSITIONS) == set(S)
    assert [state for state in S if not TRANSITIONS[state]] == [S.DEAD]
    assert all(S.DEAD in after for state, after in TRANSITIONS.items() if state is not S.DEAD)


@pytest.mark.parametrize(("before", "after"), [(S.READY, S.BUSY), (S.BUSY, S.READY), (S.DRAINING, S.DEAD)])
def test_an_actor_moves_on(before: ActorState, after: ActorState) -> None:
    assert moved(before, after) is after
    assert moved(before, before) is before


@pytest.mark.parametrize(
    ("before", "after"),
    [(S.STARTING, S.BUSY), (S.DRAINING, S.READY), (S.DRAINING, S.BUSY), (S.DEAD, S.READY), (S.READY, S.STARTING)],
)
def test_an_actor_cannot_move_so(before: ActorState, after: ActorState) -> None:
    with pytest.raises(ValueError, match=f"{before.value} cannot become {after.value}"):
        moved(before, after)


def test_states_are_counted_with_those_in_which_nobody_is() -> None:
    counted = count([S.READY, S.BUSY, S.READY])
    assert counted == {"starting": 0, "ready": 2, "busy": 1, "draining": 0, "dead": 0}
