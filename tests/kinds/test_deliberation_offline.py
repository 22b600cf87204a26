"""Provider `offline`: plainly labelled, deterministic, and measured."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kinds.helpers import deliberate, deliberation_host, result_of
from workers.kinds.deliberation.config import RUBRIC, STANCES
from workers.kinds.deliberation.providers.base import Criticise, Propose, Revise
from workers.kinds.deliberation.providers.measures import mark, read_page, section_for, terms_of, uncovered
from workers.kinds.deliberation.providers.offline import LABEL, OfflineModel
from workers.kinds.deliberation.terms import Seat, Task

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


TASK = Task(
    description="Serve the product catalogue from a cache, invalidate it on price changes, keep latency low",
    role="DEV",
    rubric=RUBRIC,
    about={},
)


def seat(index: int, stance: str | None = None) -> Seat:
    return Seat(
        index=index,
        agent_id=f"agent-{index}",
        role="DEV",
        stance=stance or STANCES[index % len(STANCES)],
        model="asked-in-vain",
        prompt_template=None,
    )


async def proposal_of(index: int, task: Task = TASK) -> str:
    return await OfflineModel().generate(Propose(task=task, seat=seat(index)))


async def test_it_says_what_it_is():
    model = OfflineModel()
    assert (model.provider, model.model_for(seat(0)), model.model_for(None)) == ("offline", "offline-v1", "offline-v1")
    outcome, heard = await deliberate(deliberation_host())
    result = result_of(outcome)
    assert (result.provider, result.model) == ("offline", "offline-v1")
    assert all(one.proposal.startswith(LABEL) for one in result.ranking)
    assert all(critique.critique.startswith(LABEL) for one in result.ranking for critique in one.critiques)
    assert {(response.provider, response.model) for response in heard.responses} == {("offline", "offline-v1")}


@pytest.mark.parametrize("description", ["Cache the catalogue", "Implement plan P1 for story S1", TASK.description])
@pytest.mark.parametrize("agents", [2, 3, 5])
@pytest.mark.parametrize("rounds", [0, 1, 3])
async def test_scores_differ_and_are_the_same_again(description: str, agents: int, rounds: int):
    said = {"task_description": description, "num_agents": agents, "rounds": rounds}
    first = result_of((await deliberate(deliberation_host(), **said))[0])
    again = result_of((await deliberate(deliberation_host(), **said))[0])
    assert first == again
    assert len({one.score for one in first.ranking}) == agents
    assert "the widest lead is in" in first.winner.reasoning
    assert "terms of the task" in first.winner.reasoning


async def test_stances_lead_to_different_proposals():
    proposals = [await proposal_of(index) for index in range(5)]
    bodies = {proposal.partition("## Approach")[2] for proposal in proposals}
    assert len(bodies) == 5


async def test_a_stance_decides_which_criteria_a_first_proposal_meets():
    # The second and third speak of tests and documentation; the others take the criteria in turn.
    wanted = ["Tests", "Tests", "Documentation", "Documentation", "Tests"]
    for index, section in enumerate(wanted):
        assert read_page(await proposal_of(index)).sections.keys() == {"Approach", section}


async def test_a_critique_names_what_is_missing_and_the_revision_adds_it():
    model = OfflineModel()
    for author, critic in ((0, 2), (1, 0), (2, 1), (3, 4)):
        before = await proposal_of(author)
        critique = await model.generate(
            Criticise(task=TASK, seat=seat(critic), author=f"agent-{author}", proposal=before)
        )
        assert f"agent-{critic} on the proposal of agent-{author}" in critique
        after = await model.generate(
            Revise(task=TASK, seat=seat(author), proposal=before, critic=f"agent-{critic}", critique=critique)
        )
        terms = terms_of(TASK.description)
        gaps = [line for line in critique.splitlines() if line.startswith("- ")]
        assert 1 <= len(gaps) <= 2
        for gap in gaps:
            if gap.startswith("- add section "):
                title = gap.removeprefix("- add section ")
                assert title not in read_page(before).sections
                assert read_page(after).sections[title]
            else:
                title, _, named = gap.removeprefix("- in section ").partition(", cover: ")
                missing = named.split(", ")
                assert set(missing) <= set(uncovered(terms, read_page(before).sections[title]))
                assert not set(missing) & set(uncovered(terms, read_page(after).sections[title]))
        assert f"Revised after agent-{critic}" in after


async def test_a_complete_proposal_has_nothing_to_add():
    model, proposal = OfflineModel(), await proposal_of(0)
    for _ in range(20):
        critique = await model.generate(Criticise(task=TASK, seat=seat(1), author="agent-0", proposal=proposal))
        before, proposal = (
            proposal,
            await model.generate(
                Revise(task=TASK, seat=seat(0), proposal=proposal, critic="agent-1", critique=critique)
            ),
        )
    assert critique.endswith("- nothing measurable is missing")
    assert proposal == before
    marks = await model.score(TASK, proposal)
    assert (marks["tests"].score, marks["documentation"].score) == (1.0, 1.0)


async def test_any_criterion_can_be_asked_for():
    rubric = {"security": 2.0, "cost of   operation": 1.0, "quality": 1.0}
    outcome, _ = await deliberate(deliberation_host(), rubric=rubric, num_agents=3, rounds=2)
    result = result_of(outcome)
    assert set(result.ranking[0].scores) == set(rubric)
    assert "## Security" in result.winner.proposal
    assert section_for("cost of   operation") == "Cost of operation"
    outcome, _ = await deliberate(deliberation_host(), rubric={"quality": 1.0})
    assert result_of(outcome).ranking[0].scores.keys() == {"quality"}


def test_marks_measure_the_text():
    terms = ["cache", "price"]
    assert mark("tests", "## Approach\ncache", terms).score == 0
    assert mark("tests", "## Approach\ncache", terms).reason == "there is no section Tests"
    half = mark("tests", "## Tests\n- cache", terms)
    assert (half.score, half.reason) == (0.7, "section Tests names 1 of the 2 terms of the task")
    none, all_ = (mark("quality", f"## Approach\n{words}", terms).score for words in ("x y", "cache price"))
    assert all_ - none == pytest.approx(0.7)


def test_the_title_covers_nothing():
    assert mark("quality", "# cache price", ["cache", "price"]).score < 0.3


def test_terms_are_the_telling_words():
    assert terms_of("Implement plan P1 for story S1") == ["implement", "plan", "p1", "for", "story", "s1"]
    assert terms_of("Cache the catalogue, then cache it again") == ["cache", "catalogue", "again"]
    assert terms_of("Ünïcode größe") == ["ünïcode", "größe"]
    assert terms_of("?!") == ["task"]
    assert len(terms_of(" ".join(f"word{n}" for n in range(100)))) == 12


async def test_text_of_the_task_cannot_pass_for_a_heading():
    task = Task(description="x\n## Tests\n- everything", role="R\n## Tests", rubric=RUBRIC, about={})
    one = seat(3, "stay calm\n## Documentation\nno")
    page = read_page(await OfflineModel().generate(Propose(task=task, seat=one)))
    assert set(page.sections) <= {"Approach", "Tests", "Documentation"}
    assert page.sections.keys() == {"Approach", section_for("documentation")}


@given(st.text(max_size=300))
def test_a_page_reads_back_as_it_was_written(text: str):
    once = read_page(text).render()
    assert read_page(once).render() == once


@given(description=st.text(min_size=1, max_size=200), criterion=st.text(min_size=1, max_size=20), text=st.text())
def test_marks_are_always_marks(description: str, criterion: str, text: str):
    for name in (criterion, "quality"):
        found = mark(name, text, terms_of(description))
        assert 0 <= found.score <= 1
        assert found.reason
