"""What the settings and a message come to: the message wins."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from contracts.deliberation import Deliberation
from workers.kinds.deliberation.config import Council
from workers.kinds.deliberation.errors import BadTask, Misconfigured
from workers.kinds.deliberation.terms import Terms, settle


def terms(council: dict[str, Any] | None = None, **message: Any) -> Terms:
    value = {"task_id": "T1", "task_description": "Cache it", "role": "DEV", **message}
    return settle(msgspec.convert(value, Deliberation), msgspec.convert(council or {}, Council))


def names(found: Terms) -> list[str]:
    return [seat.agent_id for seat in found.seats]


def test_what_a_message_leaves_out_comes_from_the_settings():
    found = terms({"num_agents": 2, "rounds": 4, "quorum": 1, "rubric": {"tests": 2}, "call_timeout_s": 7})
    assert names(found) == ["agent-dev-001", "agent-dev-002"]
    assert (found.rounds, found.quorum, found.call_timeout_s, found.timeout_s) == (4, 1, 7, None)
    assert found.task.rubric == {"tests": 2}
    assert found.task.about == {}


def test_what_a_message_says_wins():
    found = terms(
        {"num_agents": 2, "rounds": 4, "quorum": 2, "rubric": {"tests": 2}},
        num_agents=4,
        rounds=0,
        quorum=3,
        rubric={"speed": 1},
        constraints={"story_id": "S1", "plan_id": "P1", "timeout_seconds": 9, "max_retries": 0, "metadata": {"a": 1}},
    )
    assert len(found.seats) == 4
    assert (found.rounds, found.quorum, found.timeout_s, found.max_retries) == (0, 3, 9, 0)
    assert found.task.rubric == {"speed": 1}
    assert found.task.about == {"story_id": "S1", "plan_id": "P1", "metadata": {"a": 1}}


def test_every_agent_has_a_stance_of_its_own_while_there_are_any():
    found = terms(num_agents=7)
    stances = [seat.stance for seat in found.seats]
    assert len(set(stances[:5])) == 5
    assert stances[5] == stances[0]
    assert [seat.index for seat in found.seats] == list(range(7))


def test_named_agents_of_a_message_are_the_council():
    found = terms(
        {"agents": [{"id": "x"}]},
        agents=[{"id": "a", "role": "QA", "model": "m", "prompt_template": "t"}, {"id": "b"}],
    )
    first, second = found.seats
    assert (first.agent_id, first.role, first.model, first.prompt_template) == ("a", "QA", "m", "t")
    assert (second.agent_id, second.role, second.model, second.prompt_template) == ("b", "DEV", None, None)


def test_named_agents_of_the_settings_take_the_first_seats():
    council = {"num_agents": 3, "agents": [{"id": "x", "stance": "mine", "model": "m"}, {"id": "y"}]}
    assert names(terms(council)) == ["x", "y", "agent-dev-003"]
    assert names(terms(council, num_agents=1)) == ["x"]
    assert (terms(council).seats[0].stance, terms(council).seats[0].model) == ("mine", "m")


@pytest.mark.parametrize(("agents", "quorum"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (64, 33)])
def test_the_majority(agents: int, quorum: int):
    assert terms(num_agents=agents).quorum == quorum


def test_a_council_that_cannot_be():
    with pytest.raises(BadTask, match="quorum is 4, and the council has 3 agents") as caught:
        terms(quorum=4)
    assert caught.value.reason == "user"
    with pytest.raises(BadTask, match="agents: the council has 'a' twice"):
        terms(agents=[{"id": "a"}, {"id": "a"}])
    with pytest.raises(BadTask, match="agents: the council has 'agent-dev-002' twice"):
        terms({"agents": [{"id": "agent-dev-002"}]})
    with pytest.raises(BadTask, match="agents names 1 members and num_agents is 2"):
        terms(agents=[{"id": "a"}], num_agents=2)
    with pytest.raises(BadTask, match="agents names 65 members, the limit is 64"):
        terms(agents=[{"id": str(n)} for n in range(65)])
    with pytest.raises(Misconfigured, match=r"setting council.quorum is 3, and this council of DEV has 2 agents") as c:
        terms({"quorum": 3}, num_agents=2)
    assert c.value.reason == "config"
