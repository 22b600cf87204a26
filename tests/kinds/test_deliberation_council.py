"""The procedure, with scripted agents under virtual time: who is asked what, and what a failed call means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import anyio
import pytest
import trio.testing

from tests.kinds.helpers import ScriptedModel, council_of, echo
from workers.kinds.deliberation.config import Council as CouncilSettings
from workers.kinds.deliberation.errors import DeadlineExceeded, Malformed, ModelError, NoQuorum, Unreachable
from workers.kinds.deliberation.providers.base import Ask, Criticise, Mark, Propose, Revise

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> Any:
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


def failing(*cases: tuple[type[Ask], str], error: ModelError | None = None) -> Callable[[Ask], Any]:
    """Answers all but these kinds of call by these agents."""

    async def answer(ask: Ask) -> str:
        if (type(ask), ask.seat.agent_id) in cases:
            raise error or Unreachable("gone")
        return await echo(ask)

    return answer


async def by_name(proposal: str) -> Mapping[str, Mark]:
    """The later in the alphabet, the better."""
    return {"quality": Mark((ord(proposal[-1]) - ord("a")) / 25, "by name")}


# --- the order of things


async def test_agent_i_criticises_the_next_and_each_author_answers_its_critic():
    model = ScriptedModel(judge=by_name)
    council, _ = council_of(model)
    verdict = await council.deliberate()
    criticised = {ask.seat.agent_id: ask.author for ask in model.asked if isinstance(ask, Criticise)}
    assert criticised == {"a": "b", "b": "c", "c": "a"}
    answered = {ask.seat.agent_id: (ask.critic, ask.critique) for ask in model.asked if isinstance(ask, Revise)}
    assert answered == {"a": ("c", "Criticise by c"), "b": ("a", "Criticise by a"), "c": ("b", "Criticise by b")}
    assert sorted(model.judged) == ["Revise by a", "Revise by b", "Revise by c"]
    assert (verdict.winner.agent_id, verdict.winner.proposal) == ("c", "Revise by c")
    assert [one.agent_id for one in verdict.ranking] == ["c", "b", "a"]
    assert [(one.agent_id, one.round) for one in verdict.ranking[0].critiques] == [("b", 1)]


async def test_a_later_round_sees_what_the_round_before_wrote():
    async def counting(ask: Ask) -> str:
        return "1" if isinstance(ask, Propose) else f"{ask.proposal}+" if isinstance(ask, Revise) else "more"

    async def by_length(proposal: str) -> Mapping[str, Mark]:
        return {"quality": Mark(len(proposal) / 10, "length")}

    model = ScriptedModel(counting, by_length)
    council, _ = council_of(model, rounds=3)
    verdict = await council.deliberate()
    assert [one.proposal for one in verdict.ranking] == ["1+++"] * 3
    assert [critique.round for critique in verdict.ranking[0].critiques] == [1, 2, 3]


@pytest.mark.parametrize("agents", [1, 2, 5])
@pytest.mark.parametrize("rounds", [0, 1, 3])
async def test_rounds_and_agents_are_what_was_asked_for(agents: int, rounds: int):
    model = ScriptedModel()
    council, heard = council_of(model, names="abcde"[:agents], rounds=rounds)
    verdict = await council.deliberate()
    held = rounds if agents > 1 else 0
    kinds = [type(ask) for ask in model.asked]
    assert kinds.count(Propose) == agents
    assert kinds.count(Criticise) == kinds.count(Revise) == agents * held
    assert verdict.rounds == held
    review = [(phase, number) for number in range(1, held + 1) for phase in ("criticise", "revise")]
    assert heard.phases == [("propose", 0), *review, ("score", 0)]
    total = 2 + 2 * held
    assert [frame.done for frame in heard.progress] == list(range(total + 1))
    assert {frame.total for frame in heard.progress} == {total}


async def test_agents_work_side_by_side():
    async def slow(ask: Ask) -> str:
        await anyio.sleep(10)
        return await echo(ask)

    council, heard = council_of(ScriptedModel(slow), names="abcde", rounds=1)
    began = anyio.current_time()
    await council.deliberate()
    assert anyio.current_time() - began == pytest.approx(30)
    assert {response.duration_ms for response in heard.of("completed").values()} == {30_000}
    assert [r.duration_ms for r in heard.responses if r.status == "progress"] == [10_000, 10_000, 10_000, 0]


async def test_no_criticism_begins_before_every_proposal_is_there():
    async def uneven(ask: Ask) -> str:
        await anyio.sleep({"a": 1, "b": 5, "c": 9}[ask.seat.agent_id])
        return await echo(ask)

    model = ScriptedModel(uneven)
    council, _ = council_of(model)
    await council.deliberate()
    kinds = [type(ask) for ask in model.asked]
    assert kinds == [Propose] * 3 + [Criticise] * 3 + [Revise] * 3


# --- what is said


async def test_every_agent_that_stands_says_its_proposal():
    council, heard = council_of(ScriptedModel(), rounds=2)
    await council.deliberate()
    completed = heard.of("completed")
    assert set(completed) == {"a", "b", "c"}
    for name, response in completed.items():
        assert (response.phase, response.round, response.proposal) == ("revise", 2, f"Revise by {name}")
        assert (response.task_id, response.role, response.error) == ("T1", "DEV", None)
        assert (response.model, response.provider) == ("scripted-1", "scripted")
    assert {response.agent_id for response in heard.responses if response.status == "progress"} == {"dev"}
    assert not heard.of("failed")


async def test_events_tell_each_agents_own_role_and_model():
    council, heard = council_of(ScriptedModel(), agents=[{"id": "a", "role": "QA", "model": "big"}, {"id": "b"}])
    await council.deliberate()
    completed = heard.of("completed")
    assert (completed["a"].role, completed["a"].model) == ("QA", "big")
    assert (completed["b"].role, completed["b"].model) == ("DEV", "scripted-1")
    models = {(r.phase, r.model) for r in heard.responses if r.status == "progress"}
    assert ("propose", "big, scripted-1") in models
    assert ("score", "scripted-1") in models


# --- failures


async def test_an_agent_that_fails_to_propose_is_out_and_never_stands():
    model = ScriptedModel(failing((Propose, "b"), error=Malformed("no sense")), by_name)
    council, heard = council_of(model)
    verdict = await council.deliberate()
    assert [one.agent_id for one in verdict.ranking] == ["c", "a"]
    assert {ask.seat.agent_id for ask in model.asked if not isinstance(ask, Propose)} == {"a", "c"}
    criticised = {ask.seat.agent_id: ask.author for ask in model.asked if isinstance(ask, Criticise)}
    assert criticised == {"a": "c", "c": "a"}
    (failed,) = verdict.failed
    assert (failed.agent_id, failed.error.reason, failed.error.type) == ("b", "dependency", "Malformed")
    assert set(heard.of("completed")) == {"a", "c"}
    response = heard.of("failed")["b"]
    assert (response.phase, response.round, response.error) == ("propose", 0, failed.error)
    assert response.proposal is None
    assert heard.progress[1].message == "2 of 3 agents stand"


async def test_an_author_whose_critic_failed_keeps_its_proposal():
    model = ScriptedModel(failing((Criticise, "a")), by_name)
    council, heard = council_of(model)
    verdict = await council.deliberate()
    # a was to criticise b; c criticised a, in vain; b criticised c.
    assert {one.agent_id: one.proposal for one in verdict.ranking} == {"b": "Propose by b", "c": "Revise by c"}
    assert {one.agent_id: one.critiques for one in verdict.ranking}["b"] == []
    assert (heard.of("failed")["a"].phase, heard.of("failed")["a"].round) == ("criticise", 1)
    assert heard.of("completed")["b"].phase == "propose"


async def test_what_a_critic_said_before_it_failed_still_counts():
    model = ScriptedModel(failing((Revise, "a")), by_name)
    council, _ = council_of(model)
    verdict = await council.deliberate()
    assert {one.agent_id: one.proposal for one in verdict.ranking} == {"b": "Revise by b", "c": "Revise by c"}
    assert [one.agent_id for one in verdict.ranking[1].critiques] == ["a"]


async def test_a_critique_is_answered_once():
    async def answer(ask: Ask) -> str:
        if isinstance(ask, Criticise) and ask.seat.agent_id == "a" and ask.proposal.endswith("1"):
            raise Unreachable("gone")
        return f"{type(ask).__name__} by {ask.seat.agent_id}{'' if isinstance(ask, Propose) else '1'}"

    model = ScriptedModel(answer)
    council, heard = council_of(model, rounds=2)
    await council.deliberate()
    assert heard.of("failed").keys() == {"a"}
    assert sum(isinstance(ask, Revise) and ask.seat.agent_id == "b" for ask in model.asked) == 1
    assert (heard.of("completed")["b"].round, heard.of("completed")["c"].round) == (1, 2)


async def test_a_round_needs_two_that_stand():
    model = ScriptedModel(failing((Criticise, "a"), (Criticise, "b")))
    council, heard = council_of(model, rounds=3, quorum=1)
    verdict = await council.deliberate()
    assert verdict.rounds == 1
    assert [one.agent_id for one in verdict.ranking] == ["c"]
    assert heard.phases == [("propose", 0), ("criticise", 1), ("revise", 1), ("score", 0)]
    assert heard.progress[-1].done == heard.progress[-1].total == 8


async def test_a_proposal_that_cannot_be_scored_does_not_stand():
    async def judge(proposal: str) -> Mapping[str, Mark]:
        if proposal.endswith("c"):
            raise Malformed("no scores")
        return await by_name(proposal)

    council, heard = council_of(ScriptedModel(judge=judge))
    verdict = await council.deliberate()
    assert [one.agent_id for one in verdict.ranking] == ["b", "a"]
    assert heard.of("failed")["c"].phase == "score"
    assert set(heard.of("completed")) == {"a", "b"}


@pytest.mark.parametrize(
    ("text", "words"), [("", "empty"), (" \n\t", "empty"), ("é" * 600, "has 1200 bytes, the limit")]
)
async def test_an_answer_that_is_none_fails_its_agent(text: str, words: str):
    async def answer(ask: Ask) -> str:
        return text if ask.seat.agent_id == "a" else await echo(ask)

    council, heard = council_of(ScriptedModel(answer), CouncilSettings(answer_bytes=1024))
    verdict = await council.deliberate()
    assert [failed.agent_id for failed in verdict.failed] == ["a"]
    error = heard.of("failed")["a"].error
    assert error is not None
    assert error.type == "Malformed"
    assert words in error.message


async def test_a_call_has_a_deadline_of_its_own():
    async def answer(ask: Ask) -> str:
        if ask.seat.agent_id == "a" and isinstance(ask, Criticise):
            await anyio.sleep_forever()
        return await echo(ask)

    council, heard = council_of(ScriptedModel(answer), CouncilSettings(call_timeout_s=7))
    began = anyio.current_time()
    verdict = await council.deliberate()
    assert anyio.current_time() - began == pytest.approx(7)
    (failed,) = verdict.failed
    assert (failed.agent_id, failed.error.reason, failed.error.type) == ("a", "deadline", "Overdue")
    assert failed.error.message == "no answer within 7 s (setting council.call_timeout_s)"
    assert heard.of("failed")["a"].duration_ms == 7000


async def test_scoring_has_a_deadline_too():
    async def judge(proposal: str) -> Mapping[str, Mark]:
        await anyio.sleep_forever()
        raise AssertionError

    council, _ = council_of(ScriptedModel(judge=judge), CouncilSettings(call_timeout_s=7))
    with pytest.raises(NoQuorum, match="after phase score"):
        await council.deliberate()


async def test_an_error_that_is_no_answer_of_a_model_is_not_taken_for_one():
    async def broken(ask: Ask) -> str:
        raise ZeroDivisionError

    council, heard = council_of(ScriptedModel(broken))
    with pytest.raises(ExceptionGroup) as caught:
        await council.deliberate()
    assert caught.group_contains(ZeroDivisionError)
    assert not heard.of("failed")


# --- quorum


async def test_the_quorum_is_kept_by_exactly_so_many():
    model = ScriptedModel(failing((Propose, "a"), (Propose, "b")))
    council, _ = council_of(model, names="abcd", quorum=2)
    assert len((await council.deliberate()).ranking) == 2


@pytest.mark.parametrize(
    ("kind", "phase"),
    [(Propose, "propose"), (Criticise, "criticise"), (Revise, "revise")],
    ids=lambda value: str(value),
)
async def test_without_a_quorum_nothing_more_is_asked(kind: type[Ask], phase: str):
    model = ScriptedModel(failing((kind, "a"), (kind, "c"), error=Unreachable("no route")))
    council, heard = council_of(model)
    with pytest.raises(NoQuorum) as caught:
        await council.deliberate()
    assert caught.value.reason == "quorum"
    assert str(caught.value) == (
        f"1 of 3 agents stand after phase {phase}, the quorum is 2; a: Unreachable: no route; c: Unreachable: no route"
    )
    assert type(model.asked[-1]) is kind
    assert model.judged == []
    assert set(heard.of("failed")) == {"a", "c"}
    assert set(heard.of("completed")) == {"b"}


async def test_a_lost_quorum_tells_of_every_agent_but_not_at_any_length():
    cases = [(Propose, name) for name in "abcde"]
    council, _ = council_of(ScriptedModel(failing(*cases, error=Malformed("x" * 5000))), names="abcde")
    with pytest.raises(NoQuorum, match=r"^0 of 5 agents stand") as caught:
        await council.deliberate()
    assert all(f"{name}: Malformed: x" in str(caught.value) for name in "abcde")
    assert len(str(caught.value)) < 1300


# --- cut short


async def test_a_council_cut_short_reports_every_agent_once():
    async def answer(ask: Ask) -> str:
        if isinstance(ask, Criticise):
            await anyio.sleep_forever()
        if ask.seat.agent_id == "b":
            raise Unreachable("gone")
        return await echo(ask)

    council, heard = council_of(ScriptedModel(answer))
    with anyio.move_on_after(60) as scope:
        await council.deliberate()
    assert scope.cancelled_caught
    council.give_up(DeadlineExceeded(60))
    failed = heard.of("failed")
    assert set(failed) == {"a", "b", "c"}
    assert not heard.of("completed")
    assert (failed["a"].phase, failed["a"].round) == ("criticise", 1)
    error = failed["a"].error
    assert error is not None
    assert (error.reason, error.type) == ("deadline", "DeadlineExceeded")
    assert failed["a"].duration_ms == 60_000
