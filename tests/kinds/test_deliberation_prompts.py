"""The words in which a model is asked."""

from __future__ import annotations

import jsonschema
import pytest

from workers.kinds.deliberation.providers.base import Criticise, Propose, Revise
from workers.kinds.deliberation.providers.prompts import messages_for, score_messages, score_schema
from workers.kinds.deliberation.terms import Seat, Task

TASK = Task(description="Cache {role} it", role="DEV", rubric={"quality": 2.0, 'te"st': 1.0}, about={"story_id": "S1"})


def seat(template: str | None = None) -> Seat:
    return Seat(index=0, agent_id="a1", role="QA", stance="Be brief.", model=None, prompt_template=template)


def test_a_proposal_is_asked_for_with_stance_task_and_criteria():
    system, user = messages_for(Propose(task=TASK, seat=seat()))
    assert system["role"] == "system"
    assert "a1" in system["content"]
    assert "QA" in system["content"]
    assert "Be brief." in system["content"]
    assert "<task>\nCache {role} it\n</task>" in user["content"]
    assert '{"story_id":"S1"}' in user["content"]
    assert "quality (weight 2)" in user["content"]


def test_a_template_is_filled_once_and_in_nothing_but_its_own_names():
    template = "{agent_id} as {role}: {task_description} / {stance} / {other} {0} {role.__class__} {{}}"
    _, user = messages_for(Propose(task=TASK, seat=seat(template)))
    assert user["content"] == "a1 as QA: Cache {role} it / Be brief. / {other} {0} {role.__class__} {{}}"


def test_a_template_without_the_task_gets_it_below():
    _, user = messages_for(Propose(task=TASK, seat=seat("Answer in rhyme, {agent_id}.")))
    assert user["content"].startswith("Answer in rhyme, a1.\n\n<task>\nCache")


def test_a_critique_and_a_revision_see_what_they_speak_of():
    _, critique = messages_for(Criticise(task=TASK, seat=seat("unused"), author="b2", proposal="do it"))
    assert "proposal of b2:\n<proposal>\ndo it\n</proposal>" in critique["content"]
    _, revision = messages_for(Revise(task=TASK, seat=seat("unused"), proposal="mine", critic="b2", critique="thin"))
    assert "<proposal>\nmine\n</proposal>" in revision["content"]
    assert "what b2 says of it:\n<critique>\nthin\n</critique>" in revision["content"]


def test_scores_are_asked_for_as_json():
    _, user = score_messages(TASK, "do it")
    assert '{"quality": {"score": <0 to 1>' in user["content"]
    assert '"te\\"st": {"score"' in user["content"]


def test_the_schema_takes_all_the_criteria_and_nothing_else():
    schema = score_schema(TASK.rubric)
    mark = {"score": 0.5, "reason": "fair"}
    jsonschema.validate({"quality": mark, 'te"st': mark}, schema)
    for wrong in ({"quality": mark}, {"quality": mark, 'te"st': mark, "more": mark}, {"quality": 1, 'te"st': mark}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)
