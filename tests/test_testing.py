"""`workers.testing`: a whole Jetray in memory, on asyncio and in virtual time."""

from __future__ import annotations

import operator
import re
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest
from msgspec import Struct

from contracts.events import Completed, Failed, Started
from workers import Fail, JobContext, Retry, job, testing
from workers.settings import BadSettings, Gateway, Kinds, KindSettings, Settings
from workers.testing import DeadLetter, stack

pytestmark = [pytest.mark.slow, pytest.mark.anyio]

APPROVED = {"story_id": "S1", "plan_id": "P1", "approved_by": "reviewer-1", "timestamp": "2026-11-22T05:00:00Z"}


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> str | tuple[str, dict[str, Any]]:
    """Virtual time, unless a test wants real time too."""
    return "asyncio" if getattr(request, "param", "") == "real time" else testing.virtual_time()


in_real_time_too = pytest.mark.parametrize("anyio_backend", ["real time", "virtual time"], indirect=True)


class Text(Struct):
    text_id: str
    words: list[str] = []


class Score(Struct):
    letters: int


@job("score", id_field="text_id")
async def score(ctx: JobContext, text: Text) -> Score | Fail:
    """Counts letters."""
    if not text.words:
        return Fail("there are no words")
    ctx.progress(done=1, total=1)
    ctx.emit("response.progress", {"words": len(text.words)})
    return Score(letters=sum(map(len, text.words)))


@job("short", id_field="text_id")
def short(text: Text) -> Score:
    """Sync, without a context."""
    return Score(letters=sum(map(len, text.words)))


@job("threaded", id_field="text_id")
def threaded(ctx: JobContext, text: Text) -> Score:
    """Sync, with a context: runs in a thread."""
    time.sleep(0.1)
    ctx.progress(done=1, total=2)
    time.sleep(0.1)
    return Score(letters=sum(map(len, text.words)))


def test_its_names_are_few() -> None:
    assert testing.__all__ == ["DeadLetter", "Stack", "stack", "virtual_time"]


@in_real_time_too
@pytest.mark.parametrize("kind", [score, short, threaded], ids=lambda kind: str(kind.name))
async def test_a_job_is_submitted_and_its_typed_result_comes_back(kind: Any) -> None:
    async with stack(kinds=[kind]) as jetray:
        job_id = await jetray.submit(kind.name, Text("T1", ["to", "have"]))
        assert job_id == "T1"
        assert await jetray.result_of(kind.name, job_id, within_s=10) == Score(letters=6)
        end = await jetray.end_of(kind.name, job_id)
        assert isinstance(end, Completed)


@in_real_time_too
async def test_two_jobs_in_threads_at_once_both_hold_the_clock() -> None:
    async with stack(kinds=[threaded]) as jetray:
        for name in ("a", "b"):
            await jetray.submit("threaded", Text(name, ["to"]))
        for name in ("a", "b"):
            assert await jetray.result_of("threaded", name, within_s=10) == Score(letters=2)


async def test_the_log_and_what_was_said_can_be_read() -> None:
    async with stack(kinds=[score]) as jetray:
        await jetray.submit("score", {"text_id": "T1", "words": ["to"]})
        await jetray.end_of("score", "T1")
        assert [type(event).__name__ for event in await jetray.events("score", "T1")] == [
            "Started",
            "Progress",
            "Completed",
        ]
        assert await jetray.emitted("T1") == [("response.progress", {"words": 1})]
        assert await jetray.events("score", "T2") == []


@in_real_time_too
async def test_ids_are_those_that_the_gateway_gives() -> None:
    @job("anonymous")
    async def anonymous(value: int) -> int:
        return value

    async with stack(kinds=[anonymous]) as jetray:
        assert await jetray.submit("anonymous", 7) == "JOBS-1"
        assert await jetray.result_of("anonymous", "JOBS-1") == 7
        assert await jetray.submit("anonymous", 8, headers={"Nats-Msg-Id": "mine"}) == "mine"
        assert await jetray.submit("anonymous", 9, high=True) == "JOBS-3"
        assert await jetray.submit("anonymous", b"nonsense") == "JOBS-4"
        assert await jetray.result_of("anonymous", "JOBS-3") == 9
        assert isinstance(await jetray.end_of("anonymous", "JOBS-4"), Failed)


async def test_a_dead_letter_tells_what_and_why() -> None:
    async with stack(kinds=[score]) as jetray:
        await jetray.submit("score", {"text_id": "T1"}, headers={"X-Note": "kept"})
        end = await jetray.end_of("score", "T1")
        assert isinstance(end, Failed)
        assert jetray.dead_letters() == [
            DeadLetter(
                kind="score",
                job_id="T1",
                reason="user",
                attempts=1,
                body=b'{"text_id":"T1"}',
                headers={"X-Note": "kept"},
                sequence=end.dlq_sequence,
            )
        ]


async def test_a_result_that_is_none_says_why() -> None:
    async with stack(kinds=[score]) as jetray:
        await jetray.submit("score", {"text_id": "T1"})
        with pytest.raises(AssertionError, match=r"score\.T1 did not complete: it failed \(user\).*there are no words"):
            await jetray.result_of("score", "T1")


async def test_a_job_that_does_not_end_in_time_says_how_far_it_came() -> None:
    @job("sleeper", id_field="text_id")
    async def sleeper(text: Text) -> None:
        await anyio.sleep(300)

    async with stack(kinds=[sleeper]) as jetray:
        await jetray.submit("sleeper", {"text_id": "T1"})
        with pytest.raises(TimeoutError, match=r"sleeper\.T1 did not end within 0\.2 s; its log has: started"):
            await jetray.end_of("sleeper", "T1", within_s=0.2)
        with pytest.raises(TimeoutError, match="no event at all"):
            await jetray.end_of("sleeper", "T2", within_s=0.2)


async def test_a_large_result_is_fetched() -> None:
    @job("large", id_field="text_id")
    async def large(text: Text) -> str:
        return "x" * 300_000

    async with stack(kinds=[large]) as jetray:
        await jetray.submit("large", {"text_id": "T1"})
        assert await jetray.result_of("large", "T1") == "x" * 300_000


async def test_a_result_that_looks_like_a_moved_one_is_taken_as_it_is() -> None:
    @job("alike", id_field="text_id")
    async def alike(text: Text) -> dict[str, str]:
        return {"artifact": "file:///elsewhere", "sha256": "0"}

    async with stack(kinds=[alike]) as jetray:
        await jetray.submit("alike", {"text_id": "T1"})
        assert await jetray.result_of("alike", "T1") == {"artifact": "file:///elsewhere", "sha256": "0"}


@in_real_time_too
async def test_the_kinds_that_ship_and_their_routes_are_there() -> None:
    async with stack() as jetray:
        await jetray.publish("planning.plan.approved", {**APPROVED, "roles": ["DEV"]})
        result = await jetray.result_of("plan", "P1", within_s=30)
        assert [council.role for council in result.councils] == ["DEV"]


async def test_settings_hold() -> None:
    terms = Settings(gateway=Gateway(name="gw-7"), kinds=Kinds(settings={"score": KindSettings(deadline_s=5)}))
    async with stack(kinds=[score], settings=terms) as jetray:
        assert repr(jetray) == "Stack(gw-7, batch, deliberation, plan, score, variant)"
        await jetray.submit("score", {"text_id": "T1", "words": ["to"]})
        await jetray.end_of("score", "T1")
        [start, *_] = await jetray.events("score", "T1")
        assert isinstance(start, Started)
        assert start.gateway == "gw-7"
        assert (start.deadline - start.time).total_seconds() == pytest.approx(5, abs=0.1)


async def test_wrong_settings_are_told_as_a_gateway_tells_them() -> None:
    with pytest.raises(BadSettings, match=r"kinds\.settings\.nobody"):
        async with stack(settings=Settings(kinds=Kinds(settings={"nobody": KindSettings()}))):
            pass


@in_real_time_too
async def test_an_actor_can_be_killed_and_the_bus_be_cut() -> None:
    began = anyio.Event()
    attempts: list[int] = []

    @job("fragile", id_field="text_id")
    async def fragile(ctx: JobContext, text: Text) -> int:
        attempts.append(ctx.attempt)
        began.set()
        if ctx.attempt == 1:
            await anyio.sleep_forever()
        return ctx.attempt

    async with stack(kinds=[fragile]) as jetray:
        await jetray.submit("fragile", {"text_id": "T1"})
        await began.wait()
        jetray.bus.disconnect()
        jetray.bus.reconnect()
        [start] = await jetray.events("fragile", "T1")
        assert isinstance(start, Started)
        assert start.actor is not None
        jetray.pool.kill(start.actor)
        assert await jetray.result_of("fragile", "T1", within_s=30) == 2
    assert attempts == [1, 2]


@in_real_time_too
async def test_what_a_test_raises_comes_out_as_it_is() -> None:
    with pytest.raises(LookupError, match="of the test"):
        async with stack():
            raise LookupError("of the test")


@in_real_time_too
async def test_what_still_runs_at_the_end_is_stopped() -> None:
    stopped: list[str] = []

    @job("sleeper", id_field="text_id")
    async def sleeper(ctx: JobContext, text: Text) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            stopped.append(text.text_id)

    async with stack(kinds=[sleeper]) as jetray:
        await jetray.submit("sleeper", {"text_id": "T1"})
        while not await jetray.events("sleeper", "T1"):  # noqa: ASYNC110
            await anyio.sleep(0.01)
        await anyio.sleep(0.05)
    assert stopped == ["T1"]


async def test_a_gateway_can_be_drained() -> None:
    async with stack(kinds=[score]) as jetray:
        jetray.gateway.drain("the test says so")
        await anyio.sleep(0.5)
        await jetray.submit("score", {"text_id": "T1", "words": ["to"]})
        await anyio.sleep(0.2)
        assert await jetray.events("score", "T1") == []


def test_hours_pass_in_no_time() -> None:
    @job("patient", id_field="text_id")
    async def patient(ctx: JobContext, text: Text) -> float | Retry:
        return Retry("later", after=3_000) if ctx.attempt == 1 else anyio.current_time()

    async def main() -> None:
        async with stack(kinds=[patient], settings=Settings(gateway=Gateway(deadline_s=10_000))) as jetray:
            await jetray.submit("patient", {"text_id": "T1"})
            assert await jetray.result_of("patient", "T1", within_s=4_000) >= 3_000

    backend, options = testing.virtual_time()
    began = time.monotonic()
    anyio.run(main, backend=backend, backend_options=options)
    assert time.monotonic() - began < 10


async def test_what_the_docs_say_a_stack_gives_is_there() -> None:
    page = (Path(__file__).parents[1] / "docs" / "testing.md").read_text()
    calls = re.findall(r"jetray((?:\.\w+)+)\(", page.partition("## What `stack` gives")[2])
    assert len(calls) >= 10
    async with stack(kinds=[score]) as jetray:
        assert [call for call in calls if not callable(operator.attrgetter(call[1:])(jetray))] == []
    [fields] = re.findall(r"what is in `DLQ`: (.*) \|", page)
    assert set(DeadLetter.__struct_fields__) == set(re.findall(r"`(\w+)`", fields))


def test_the_tests_in_the_docs_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[1] / "docs" / "testing.md"
    [block] = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    module = ModuleType("docs_testing")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(block, str(page), "exec"), vars(module))
    tests = [value for name, value in vars(module).items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        backend, options = testing.virtual_time()
        anyio.run(test, backend=backend, backend_options=options)
