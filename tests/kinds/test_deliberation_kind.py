"""The kind as a host runs it, with the provider that needs no network."""

from __future__ import annotations

from typing import Any

import anyio
import msgspec
import pytest
import trio.testing

from contracts.calls import Raised
from contracts.deliberation import Deliberation
from tests.kinds.helpers import Heard, call, deliberate, deliberation_host, error_of, result_of
from workers.kinds.registry import load

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_it_is_an_async_kind_with_settings():
    kind = load([])["deliberation"]
    assert (kind.is_async, kind.takes_context, kind.exclusive, kind.id_field) == (True, True, False, "task_id")
    assert "council" in kind.doc
    kind.instance(None)


async def test_a_council_from_message_to_result():
    outcome, heard = await deliberate(deliberation_host())
    result = result_of(outcome)
    assert (result.task_id, result.role, result.rounds) == ("T1", "DEV", 1)
    assert (result.total_agents, result.successful_responses, result.failed_responses) == (3, 3, 0)
    assert result.failed_agents == []
    head = result.ranking[0]
    winner = result.winner
    assert (winner.agent_id, winner.proposal, winner.score) == (head.agent_id, head.proposal, head.score)
    assert [one.score for one in result.ranking] == sorted((one.score for one in result.ranking), reverse=True)
    assert heard.phases == [("propose", 0), ("criticise", 1), ("revise", 1), ("score", 0)]
    assert set(heard.of("completed")) == {f"agent-dev-00{n}" for n in (1, 2, 3)}
    assert [(frame.step, frame.done, frame.total) for frame in heard.progress] == [
        ("propose", 0, 4),
        ("propose", 1, 4),
        ("criticise", 2, 4),
        ("revise", 3, 4),
        ("score", 4, 4),
    ]


@pytest.mark.parametrize("agents", [1, 2, 5])
@pytest.mark.parametrize("rounds", [0, 1, 3])
async def test_rounds_and_agents_are_honoured(agents: int, rounds: int):
    result = result_of((await deliberate(deliberation_host(), num_agents=agents, rounds=rounds))[0])
    held = rounds if agents > 1 else 0
    assert (result.total_agents, len(result.ranking), result.rounds) == (agents, agents, held)
    assert all([critique.round for critique in one.critiques] == list(range(1, held + 1)) for one in result.ranking)


async def test_a_roles_settings_are_used_unless_the_message_says_otherwise():
    host = deliberation_host({"council": {"rounds": 0}, "councils": {"QA": {"num_agents": 5, "rubric": {"tests": 1}}}})
    quality = result_of((await deliberate(host, role="QA"))[0])
    assert (quality.total_agents, quality.rounds, set(quality.ranking[0].scores)) == (5, 0, {"tests"})
    assert quality.ranking[0].agent_id.startswith("agent-qa-")
    other = result_of((await deliberate(host, role="DEV", rounds=2))[0])
    assert (other.total_agents, other.rounds) == (3, 2)


async def test_a_message_that_contradicts_itself_fails_at_once():
    outcome, heard = await deliberate(deliberation_host(), num_agents=2, quorum=3)
    error = error_of(outcome)
    assert (error.reason, error.type, error.retryable) == ("user", "BadTask", False)
    assert error.message == "quorum is 3, and the council has 2 agents"
    assert heard.frames == []


async def test_settings_that_stand_in_the_way():
    error = error_of((await deliberate(deliberation_host({"council": {"quorum": 3}}), num_agents=2))[0])
    assert (error.reason, error.type) == ("config", "Misconfigured")
    error = error_of((await deliberate(deliberation_host({"council": {"rounds": "x"}})))[0])
    assert (error.reason, error.type) == ("config", "KindError")


async def test_sixty_four_agents():
    result = result_of((await deliberate(deliberation_host(), num_agents=64, rounds=2))[0])
    assert len(result.ranking) == 64
    assert result.ranking[0].agent_id == result.winner.agent_id


def test_a_message_with_unknown_fields_is_refused():
    with pytest.raises(msgspec.ValidationError, match="unknown field `agent`"):
        msgspec.json.decode(b'{"task_id":"T","task_description":"d","role":"R","agent":1}', type=Deliberation)


class TestTime:
    """Under a virtual clock, with agents that think for a minute a call."""

    @pytest.fixture
    def anyio_backend(self) -> Any:
        return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}

    CONFIG = {"council": {"call_timeout_s": 90}, "providers": {"offline": {"think_s": 60}}}

    async def test_the_whole_may_take_what_it_takes(self):
        began = anyio.current_time()
        result_of(await self.execute(timeout_s=600))
        assert anyio.current_time() - began == pytest.approx(240)

    async def test_the_deliberations_own_time(self):
        heard = Heard()
        began = anyio.current_time()
        error = error_of(await self.execute(heard, timeout_s=600, constraints={"timeout_seconds": 150}))
        assert anyio.current_time() - began == pytest.approx(150)
        assert (error.reason, error.type, error.retryable) == ("deadline", "DeadlineExceeded", False)
        assert error.message == "the deliberation did not end within constraints.timeout_seconds = 150"
        assert set(heard.of("failed")) == {f"agent-dev-00{n}" for n in (1, 2, 3)}
        assert {response.phase for response in heard.of("failed").values()} == {"revise"}
        assert not heard.of("completed")

    async def test_the_jobs_deadline_holds_all_the_same(self):
        began = anyio.current_time()
        error = error_of(await self.execute(timeout_s=100, constraints={"timeout_seconds": 150}))
        assert anyio.current_time() - began == pytest.approx(100)
        assert (error.reason, error.message) == ("deadline", "the job did not end before its deadline")

    async def test_a_council_whose_agents_all_take_too_long(self):
        config = {**self.CONFIG, "council": {"call_timeout_s": 30}}
        error = error_of(await self.execute(timeout_s=600, config=config))
        assert (error.reason, error.type) == ("quorum", "NoQuorum")
        assert error.message.count("Overdue: no answer within 30 s") == 3

    async def test_a_cancelled_council_ends_where_it_is(self):
        host, heard, outcomes = deliberation_host(self.CONFIG), Heard(), []

        async def execute() -> None:
            value = {"task_id": "T1", "task_description": "Cache it", "role": "DEV"}
            outcomes.append(await host.execute(call("deliberation", value, timeout_s=600), heard))

        async with anyio.create_task_group() as group:
            group.start_soon(execute)
            await anyio.sleep(90)
            assert host.cancel("deliberation.T1")
        assert anyio.current_time() < 600
        assert error_of(outcomes[0]).type == "Cancelled"
        assert not heard.of("completed")
        assert not heard.of("failed")

    async def execute(
        self, heard: Heard | None = None, *, timeout_s: float, config: Any = None, **message: Any
    ) -> Any | Raised:
        value = {"task_id": "T1", "task_description": "Cache it", "role": "DEV", **message}
        host = deliberation_host(config or self.CONFIG)
        return await host.execute(call("deliberation", value, timeout_s=timeout_s), heard or Heard())
