"""Provider `openai`, against a real HTTP server in another process."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from tests.kinds.helpers import Heard, call, deliberate, deliberation_host, error_of, result_of

pytestmark = [pytest.mark.slow, pytest.mark.anyio]

SERVER = Path(__file__).with_name("openai_server.py")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Endpoint:
    """The server, as a test sees it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.base_url = f"http://127.0.0.1:{port}/v1"

    def ask(self, method: str, path: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(method, path)
        body = json.load(connection.getresponse())
        connection.close()
        return body

    @property
    def log(self) -> list[dict[str, Any]]:
        return self.ask("GET", "/log")

    def requests(self, model: str) -> int:
        return sum(1 for entry in self.log if entry["body"]["model"] == model)


@pytest.fixture(scope="module")
def server() -> Iterator[Endpoint]:
    with subprocess.Popen(
        [sys.executable, str(SERVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield Endpoint(int(process.stdout.readline()))
        process.stdin.close()
        assert process.wait(10) == 0


@pytest.fixture
def endpoint(server: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    server.ask("POST", "/reset")
    return server


def settings(endpoint: Endpoint, **openai: Any) -> dict[str, Any]:
    return {
        "council": {"provider": "openai"},
        "providers": {"openai": {"base_url": endpoint.base_url, "model": "good", **openai}},
    }


async def run(endpoint: Endpoint, openai: dict[str, Any] | None = None, **message: Any) -> tuple[Any, Heard]:
    return await deliberate(deliberation_host(settings(endpoint, **(openai or {}))), **message)


def agents(*models: str) -> list[dict[str, str]]:
    return [{"id": f"a{n}", "model": model} for n, model in enumerate(models, 1)]


# --- a council


async def test_a_whole_council(endpoint: Endpoint):
    outcome, heard = await run(endpoint)
    result = result_of(outcome)
    assert (result.provider, result.model, result.rounds) == ("openai", "good", 1)
    assert {one.proposal for one in result.ranking} == {f"agent-dev-00{n} revises" for n in (1, 2, 3)}
    assert {critique.critique for one in result.ranking for critique in one.critiques} == {
        f"agent-dev-00{n} criticises" for n in (1, 2, 3)
    }
    assert len({one.score for one in result.ranking}) == 3
    assert "quality seen" in result.winner.reasoning
    assert len(heard.of("completed")) == 3
    assert endpoint.requests("good") == 12


async def test_agents_can_have_models_of_their_own(endpoint: Endpoint):
    outcome, heard = await run(endpoint, agents=agents("good#1", "good#2"), rounds=0)
    assert result_of(outcome).model == "good#1, good#2"
    assert heard.of("completed")["a2"].model == "good#2"
    assert (endpoint.requests("good#1"), endpoint.requests("good#2"), endpoint.requests("good")) == (1, 1, 2)


async def test_what_is_sent(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MY_KEY", " sk-test\n")
    openai = {"temperature": 0.7, "api_key_env": "MY_KEY", "extra_body": {"max_completion_tokens": 50}}
    outcome, _ = await run(endpoint, openai, num_agents=1, rubric={"speed": 1})
    result_of(outcome)
    proposal, score = endpoint.log
    assert proposal["headers"]["authorization"] == "Bearer sk-test"
    assert (proposal["body"]["temperature"], proposal["body"]["max_completion_tokens"]) == (0.7, 50)
    assert "response_format" not in proposal["body"]
    assert score["body"]["temperature"] == 0
    assert score["body"]["response_format"]["json_schema"]["schema"]["required"] == ["speed"]


async def test_what_is_not_set_is_not_sent(endpoint: Endpoint):
    outcome, _ = await run(endpoint, {"score_format": "text"}, num_agents=1)
    result_of(outcome)
    for entry in endpoint.log:
        assert "authorization" not in entry["headers"]
        assert entry["body"].keys() == {"model", "messages"}
    outcome, _ = await run(endpoint, {"score_format": "json_object"}, num_agents=1)
    result_of(outcome)
    assert endpoint.log[-1]["body"]["response_format"] == {"type": "json_object"}


# --- retries


@pytest.mark.parametrize("how", ["busy-2", "down-2"])
async def test_a_busy_endpoint_is_asked_again(endpoint: Endpoint, how: str):
    outcome, _ = await run(endpoint, {"max_retries": 2}, agents=agents(how), rounds=0)
    assert result_of(outcome).winner.proposal == "a1 proposes"
    assert endpoint.requests(how) == 3


@pytest.mark.parametrize(("setting", "message", "requests"), [(1, None, 2), (0, None, 1), (5, 0, 1), (0, 1, 2)])
async def test_retries_end_and_the_message_may_say_how_many(
    endpoint: Endpoint, setting: int, message: int | None, requests: int
):
    constraints = {} if message is None else {"max_retries": message}
    outcome, heard = await run(
        endpoint, {"max_retries": setting}, agents=agents("busy-9"), rounds=0, constraints=constraints
    )
    error = error_of(outcome)
    assert (error.reason, error.type) == ("quorum", "NoQuorum")
    assert endpoint.requests("busy-9") == requests
    failed = heard.of("failed")["a1"].error
    assert failed is not None
    assert (failed.reason, failed.type, failed.retryable) == ("dependency", "Rejected", True)
    assert failed.message == f"127.0.0.1:{endpoint.port} answered 429: not now"


# --- failures


@pytest.mark.parametrize(
    ("how", "reason", "name", "words"),
    [
        ("status-500", "dependency", "Rejected", "answered 500"),
        ("status-400", "dependency", "Rejected", "answered 400"),
        ("status-401", "config", "Rejected", "answered 401: the key in environment variable OPENAI_API_KEY"),
        ("status-404", "config", "Rejected", "answered 404 (model status-404)"),
        ("html", "dependency", "Malformed", "is not a chat completion: JSON is malformed"),
        ("deep", "dependency", "Malformed", "is not a chat completion: nested deeper than"),
        ("no-message", "dependency", "Malformed", "missing required field `message`"),
        ("no-choices", "dependency", "Malformed", "with no choices"),
        ("empty", "dependency", "Malformed", "an empty message"),
        ("blank", "dependency", "Malformed", "an empty message"),
        ("cut", "dependency", "Malformed", "cut off at the endpoint's limit of tokens"),
        ("filtered", "dependency", "Malformed", "the model refused: content filter"),
        ("refused", "dependency", "Malformed", "the model refused: I would rather not"),
        ("long", "dependency", "Malformed", "has 80000 bytes, the limit is 65536"),
    ],
)
async def test_an_agent_whose_model_fails_is_out(endpoint: Endpoint, how: str, reason: str, name: str, words: str):
    outcome, heard = await run(endpoint, {"max_retries": 0}, agents=agents("good", how, "good"), rounds=1)
    result = result_of(outcome)
    assert (result.total_agents, result.successful_responses, result.failed_responses) == (3, 2, 1)
    assert {one.agent_id for one in result.ranking} == {"a1", "a3"}
    (failed,) = result.failed_agents
    assert (failed.agent_id, failed.error.reason, failed.error.type) == ("a2", reason, name)
    assert words in failed.error.message
    assert len(failed.error.message) < 600
    assert set(heard.of("failed")) == {"a2"}
    assert set(heard.of("completed")) == {"a1", "a3"}
    if how == "status-401":
        assert "secret" not in failed.error.message


async def test_the_quorum_is_lost(endpoint: Endpoint):
    outcome, heard = await run(endpoint, {"max_retries": 0}, agents=agents("good", "empty", "status-500"))
    error = error_of(outcome)
    assert (error.reason, error.type) == ("quorum", "NoQuorum")
    assert error.message.startswith("1 of 3 agents stand after phase propose, the quorum is 2; a2: Malformed: ")
    assert "a3: Rejected: " in error.message
    assert set(heard.of("completed")) == {"a1"}


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("not-json", "the scores are not the JSON asked for: JSON is malformed"),
        ("fenced", "the scores are not the JSON asked for: JSON is malformed"),
        ("a-list", "the scores are not the JSON asked for: Expected `object`, got `array`"),
        ("out-of-range", "Expected `float` <= 1.0"),
        ("no-reason", "Expected `str` of length >= 1"),
        ("missing", "the scores lack documentation"),
    ],
)
async def test_scores_that_are_none_are_an_error(endpoint: Endpoint, how: str, words: str):
    outcome, heard = await run(endpoint, {"model": f"good/{how}", "max_retries": 0}, rounds=0)
    error = error_of(outcome)
    assert (error.reason, error.type) == ("quorum", "NoQuorum")
    assert "after phase score" in error.message
    messages = [response.error.message for response in heard.of("failed").values() if response.error]
    assert len(messages) == 3
    assert all(words in message for message in messages)


async def test_more_scores_than_asked_for_do_no_harm(endpoint: Endpoint):
    outcome, _ = await run(endpoint, {"model": "good/extra"}, num_agents=1)
    assert result_of(outcome).ranking[0].scores.keys() == {"quality", "tests", "documentation"}


async def test_what_a_model_thinks_is_not_its_proposal(endpoint: Endpoint):
    outcome, _ = await run(endpoint, agents=agents("thinking"))
    assert result_of(outcome).winner.proposal == "a1 proposes"


# --- time


# Only slow agents, so that no busy machine makes a good one late.
async def test_one_request_has_a_limit(endpoint: Endpoint):
    config = settings(endpoint, timeout_s=0.2, max_retries=0)
    config["council"]["call_timeout_s"] = 5.0
    outcome, heard = await deliberate(deliberation_host(config), agents=agents("slow"))
    assert error_of(outcome).reason == "quorum"
    error = heard.of("failed")["a1"].error
    assert error is not None
    assert (error.reason, error.type, error.retryable) == ("dependency", "Unreachable", True)
    assert error.message == (
        f"127.0.0.1:{endpoint.port} did not answer within 0.2 s (setting providers.openai.timeout_s)"
    )


async def test_one_call_has_a_limit_with_all_its_retries(endpoint: Endpoint):
    config = settings(endpoint, timeout_s=0.2, max_retries=10)
    config["council"]["call_timeout_s"] = 0.5
    outcome, heard = await deliberate(deliberation_host(config), agents=agents("slow"))
    assert error_of(outcome).reason == "quorum"
    error = heard.of("failed")["a1"].error
    assert error is not None
    assert (error.reason, error.type) == ("deadline", "Overdue")


async def test_the_whole_has_a_limit(endpoint: Endpoint):
    outcome, heard = await run(endpoint, agents=agents("good", "slow", "good"), constraints={"timeout_seconds": 0.5})
    error = error_of(outcome)
    assert (error.reason, error.type) == ("deadline", "DeadlineExceeded")
    assert set(heard.of("failed")) == {"a1", "a2", "a3"}


async def test_a_cancelled_council_leaves_its_connections(endpoint: Endpoint):
    host, outcomes = deliberation_host(settings(endpoint)), []

    async def execute() -> None:
        value = {"task_id": "T1", "task_description": "Cache it", "role": "DEV", "agents": agents("slow")}
        outcomes.append(await host.execute(call("deliberation", value), Heard()))

    async with anyio.create_task_group() as group:
        group.start_soon(execute)
        await anyio.to_thread.run_sync(endpoint.ask, "GET", "/seen/slow")
        began = time.monotonic()
        assert host.cancel("deliberation.T1")
    assert time.monotonic() - began < 10
    assert error_of(outcomes[0]).type == "Cancelled"


async def test_nobody_is_there(endpoint: Endpoint):
    outcome, heard = await run(endpoint, {"base_url": "http://127.0.0.1:9/v1", "max_retries": 0})
    assert error_of(outcome).reason == "quorum"
    error = heard.of("failed")["agent-dev-001"].error
    assert error is not None
    assert (error.reason, error.type, error.retryable) == ("dependency", "Unreachable", True)
    assert error.message.startswith("127.0.0.1:9 cannot be reached: ")


# --- settings that stand in the way


async def test_the_public_endpoint_needs_a_key(endpoint: Endpoint):
    outcome, heard = await run(endpoint, {"base_url": "https://api.openai.com/v1", "api_key_env": "NO_SUCH_KEY"})
    error = error_of(outcome)
    assert (error.reason, error.type, error.retryable) == ("config", "Misconfigured", False)
    assert error.message.startswith("environment variable NO_SUCH_KEY is not set where jobs run")
    assert heard.frames == []


@pytest.mark.parametrize("key", ["sk-secret sk-secret", "sk-secret\nx", "sk-secret-é"])
async def test_a_key_that_is_none_is_not_shown(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, key: str):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    outcome, _ = await run(endpoint)
    error = error_of(outcome)
    assert (error.reason, error.type) == ("config", "Misconfigured")
    assert "OPENAI_API_KEY" in error.message
    assert "secret" not in error.message


async def test_without_the_library_it_says_what_to_install(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    outcome, _ = await run(endpoint)
    error = error_of(outcome)
    assert (error.reason, error.type) == ("config", "Misconfigured")
    assert "install jetray[openai] where jobs run" in error.message


def test_the_library_is_not_imported_before_it_is_needed():
    code = "import sys; from workers.kinds.registry import load; load([]); sys.exit('openai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
