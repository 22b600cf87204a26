"""One attempt on the pool: its calls, its reports, its result."""

from __future__ import annotations

from datetime import timedelta

import anyio
import msgspec
import pytest

from contracts import subjects
from contracts.events import RESULT_LIMIT, Artifact, Moved
from infra.bus.base import NoAnswer
from infra.store.base import StoreError
from infra.store.memory import MemoryStore
from tests.runtime.kinds import Task, acting
from tests.runtime.samples import NOW, started
from tests.runtime.world import Hooks, World, names
from workers import JobContext
from workers.core import job as core
from workers.runtime.attempt import Throttle, bounded_result, call_for

pytestmark = pytest.mark.anyio


# --- the call


def test_a_call_repeats_what_its_started_says() -> None:
    event = started(run=2, attempt=3, correlation_id="root", deadline=NOW + timedelta(seconds=90))
    call = call_for(event, body=b"{}", now=NOW.timestamp(), exclusive=True, streams=False, traceparent="trace")
    assert (call.job, call.run, call.attempt, call.input) == ("echo.a", 2, 3, b"{}")
    assert (call.deadline, call.timeout_s) == (NOW.timestamp() + 90, 90)
    assert (call.exclusive, call.streams, call.correlation_id, call.traceparent) == (True, False, "root", "trace")


def test_a_call_whose_deadline_has_passed_still_has_one() -> None:
    call = call_for(
        started(deadline=NOW), body=b"", now=NOW.timestamp() + 5, exclusive=False, streams=False, traceparent=None
    )
    assert 0 < call.timeout_s < 0.01


@pytest.mark.parametrize(("limit_s", "timeout_s", "own"), [(30, 30, True), (90, 90, False), (500, 90, False)])
def test_a_call_has_the_nearer_deadline(limit_s: float, timeout_s: float, own: bool) -> None:
    now = NOW.timestamp()
    event = started(deadline=NOW + timedelta(seconds=90))
    call = call_for(event, body=b"", now=now, exclusive=False, streams=False, traceparent=None, limit_s=limit_s)
    assert (call.deadline, call.timeout_s, call.attempt_deadline) == (now + timeout_s, timeout_s, own)


# --- reports


class _Reports:
    def __init__(self) -> None:
        self.heard: list[tuple[float, int | None]] = []

    def __call__(self, stimulus: core.Stimulus) -> None:
        assert isinstance(stimulus, core.Reported)
        self.heard.append((round(anyio.current_time(), 3), stimulus.done))


async def test_the_first_report_goes_at_once_and_of_those_in_between_the_last() -> None:
    reports = _Reports()
    async with anyio.create_task_group() as group:
        throttle = Throttle(reports, 1.0, group)
        for number in range(1, 27):
            throttle.offer(core.Reported(done=number))
            await anyio.sleep(0.13)
    assert reports.heard == [(0.0, 1), (1.0, 8), (2.0, 16), (3.0, 24), (4.0, 26)]


async def test_seldom_reports_are_not_held_back() -> None:
    reports = _Reports()
    async with anyio.create_task_group() as group:
        throttle = Throttle(reports, 1.0, group)
        for number in range(3):
            throttle.offer(core.Reported(done=number))
            await anyio.sleep(1.5)
    assert reports.heard == [(0.0, 0), (1.5, 1), (3.0, 2)]


async def test_at_the_end_what_was_kept_is_sent_once() -> None:
    reports = _Reports()
    async with anyio.create_task_group() as group:
        throttle = Throttle(reports, 1.0, group)
        throttle.offer(core.Reported(done=1))
        await anyio.sleep(0.5)
        throttle.offer(core.Reported(done=2))
        throttle.close()
        assert reports.heard == [(0.0, 1), (0.5, 2)]
        await anyio.sleep(5)
    assert len(reports.heard) == 2


async def test_without_reports_nothing_is_sent() -> None:
    reports = _Reports()
    async with anyio.create_task_group() as group:
        throttle = Throttle(reports, 1.0, group)
        throttle.flush()
        throttle.close()
    assert reports.heard == []


# --- results


class _Fails(MemoryStore):
    def __init__(self, times: int) -> None:
        super().__init__()
        self.left = times

    async def put(self, name: str, data: bytes) -> Artifact:
        self.left -= 1
        if self.left >= 0:
            raise StoreError("not now") if self.left % 2 else NoAnswer("not now")
        return await super().put(name, data)


async def test_a_result_within_the_limit_stands_in_its_event() -> None:
    body = b'"' + b"x" * (RESULT_LIMIT - 2) + b'"'
    assert bytes(await bounded_result(MemoryStore(), body, "name")) == body


@pytest.mark.parametrize("failures", [0, 5])
async def test_a_larger_one_becomes_an_artifact_however_long_that_takes(failures: int) -> None:
    store = _Fails(failures)
    body = b'"' + b"x" * (RESULT_LIMIT - 1) + b'"'
    moved = msgspec.json.decode(await bounded_result(store, body, "results/a.json"), type=Moved)
    assert moved.artifact == "memory://results/a.json"
    assert await store.get(moved.artifact) == body
    artifact = await store.put("again", body)
    assert moved.sha256 == artifact.sha256


# --- what a job says, and a bus that does not take it


async def _speak(ctx: JobContext, task: Task) -> int:
    ctx.emit("response.completed", {"n": 1})
    ctx.emit("response.completed", {"n": 2})
    return 1


@pytest.mark.parametrize("ways", ["answers", "requests"])
async def test_what_a_job_says_is_repeated_until_it_is_stored_once(world: World, ways: str) -> None:
    hooks = Hooks()
    jetray = await world.gateway(acting("speaker", _speak), hooks=hooks)
    getattr(hooks, f"lose_{ways}")("publish", "agent.", times=7)
    await jetray.submit("speaker", {"id": "a"})
    await jetray.end_of("speaker", "a")
    assert await jetray.emitted("a") == [("response.completed", {"n": 1}), ("response.completed", {"n": 2})]


async def test_a_bus_that_never_takes_it_does_not_hold_the_job(world: World) -> None:
    hooks = Hooks()
    jetray = await world.gateway(acting("speaker", _speak), hooks=hooks)
    hooks.lose_requests("publish", "agent.", times=10**6)
    await jetray.submit("speaker", {"id": "a"})
    end = await jetray.end_of("speaker", "a", within_s=30)
    assert (names([end]), await jetray.emitted("a")) == (["completed"], [])


async def test_what_is_too_large_to_be_said_is_left_out(world: World) -> None:
    async def shout(ctx: JobContext, task: Task) -> int:
        ctx.emit("response.completed", "x" * 2_000_000)
        ctx.emit("response.completed", "small")
        return 1

    jetray = await world.gateway(acting("shouter", shout))
    await jetray.submit("shouter", {"id": "a"})
    await jetray.end_of("shouter", "a", within_s=30)
    assert await jetray.emitted("a") == [("response.completed", "small")]


async def test_each_attempt_says_things_under_ids_of_its_own(world: World) -> None:
    async def stumble(ctx: JobContext, task: Task) -> int:
        ctx.emit("response.progress", ctx.attempt)
        if ctx.attempt == 1:
            raise ValueError("once")
        return 1

    jetray = await world.gateway(acting("stumbler", stumble))
    await jetray.submit("stumbler", {"id": "a"}, headers={"traceparent": TRACE})
    await jetray.end_of("stumbler", "a")
    assert await jetray.emitted("a") == [("response.progress", 1), ("response.progress", 2)]
    assert {message.headers["traceparent"] for message in world.kept(subjects.AGENTS)} == {TRACE}


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
