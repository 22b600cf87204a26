"""What a job says while it runs, and its result."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import anyio
import pytest

from contracts import subjects
from contracts.events import Completed, Failed, Progress
from tests.runtime.kinds import Task, acting
from tests.runtime.world import Hooks, World
from workers import JobContext, job

pytestmark = pytest.mark.anyio


async def test_what_a_job_says_is_there_before_its_end(world: World) -> None:
    async def speak(ctx: JobContext, task: Task) -> int:
        for number in range(10):
            ctx.emit("response.progress", {"number": number})
        return 1

    hooks = Hooks()
    jetray = await world.gateway(acting("speaker", speak), hooks=hooks)
    await jetray.submit("speaker", {"id": "a"})
    await jetray.end_of("speaker", "a")
    assert await jetray.emitted("a") == [("response.progress", {"number": number}) for number in range(10)]
    said = [subject for op, subject, _ in hooks.calls if op == "publish" and subject.endswith(".a")]
    assert said == [
        "orchestration.speaker.started.a",
        *["agent.response.progress.a"] * 10,
        "orchestration.speaker.completed.a",
    ]
    ids = [message.headers["Nats-Msg-Id"] for message in world.kept(subjects.AGENTS)]
    assert len(set(ids)) == 10


async def test_what_a_job_says_survives_lost_answers(world: World) -> None:
    async def speak(ctx: JobContext, task: Task) -> int:
        ctx.emit("response.completed", {"proposal": "one"})
        return 1

    hooks = Hooks()
    jetray = await world.gateway(acting("speaker", speak), hooks=hooks)
    hooks.lose_answers("publish", "agent.", times=3)
    await jetray.submit("speaker", {"id": "a"})
    await jetray.end_of("speaker", "a")
    assert await jetray.emitted("a") == [("response.completed", {"proposal": "one"})]


async def test_progress_comes_at_most_ten_times_a_second_and_its_last_is_kept(world: World) -> None:
    async def hurry(ctx: JobContext, task: Task) -> int:
        for number in range(300):
            ctx.progress(done=number, total=299)
            await anyio.sleep(0.01)
        return 1

    jetray = await world.gateway(acting("runner", hurry))
    await jetray.submit("runner", {"id": "a"})
    await jetray.end_of("runner", "a")
    progress = [event for event in await jetray.events("runner", "a") if isinstance(event, Progress)]
    assert 25 <= len(progress) <= 32, "3 s"
    assert progress[-1].done == 299
    gaps = [(b.time - a.time).total_seconds() for a, b in pairwise(progress[:-1])]
    assert min(gaps) >= 0.099


async def test_a_report_just_before_the_end_is_kept_and_does_not_hold_it_up(world: World) -> None:
    async def hurry(ctx: JobContext, task: Task) -> int:
        ctx.progress(done=1)
        await anyio.sleep(0.02)
        ctx.progress(done=2)
        return 1

    jetray = await world.gateway(acting("runner", hurry))
    await jetray.submit("runner", {"id": "a"})
    end = await jetray.end_of("runner", "a")
    start, first, last, _ = await jetray.events("runner", "a")
    assert isinstance(first, Progress)
    assert isinstance(last, Progress)
    assert (first.done, last.done) == (1, 2)
    assert (end.time - start.time).total_seconds() < 0.05


@pytest.mark.parametrize(
    "report",
    [
        {"done": -1},
        {"eta_ms": -1},
        {"message": "x" * 2_000_000},
        {"step": "x" * 2_000_000},
        {"counts": {f"count-{number}": number for number in range(100_000)}},
    ],
    ids=["negative", "negative time", "long message", "long step", "many counts"],
)
async def test_no_report_is_so_odd_that_it_harms_the_gateway_or_its_log(world: World, report: dict[str, Any]) -> None:
    async def odd(ctx: JobContext, task: Task) -> int:
        ctx.progress(**report)
        await anyio.sleep(10)
        return 1

    jetray = await world.gateway(acting("odd", odd))
    await jetray.submit("odd", {"id": "a"})
    end = await jetray.end_of("odd", "a")
    assert isinstance(end, (Completed, Failed))
    await jetray.submit("odd", {"id": "a"})
    await anyio.sleep(10)
    assert world.kept(subjects.JOBS) == [], "the log can be read: this was found to be a duplicate"


async def test_reports_do_not_pile_up_while_events_is_full(world: World) -> None:
    async def report(ctx: JobContext, task: Task) -> int:
        for number in range(500):
            ctx.progress(done=number)
            await anyio.sleep(0.1)
        return 1

    jetray = await world.gateway(acting("reporter", report))
    await jetray.submit("reporter", {"id": "a"})
    await anyio.sleep(5)
    events = world.server.stream(subjects.EVENTS)
    room, events.config["max_bytes"] = events.config["max_bytes"], 1
    await anyio.sleep(40)
    before = len(await jetray.events("reporter", "a"))
    events.config["max_bytes"] = room
    await anyio.sleep(2)
    assert len(await jetray.events("reporter", "a")) - before < 25, "of those in between only the last was kept"
    await jetray.end_of("reporter", "a")


async def test_a_large_result_becomes_an_artifact(world: World) -> None:
    @job("large", id_field="id")
    async def large(task: Task) -> str:
        return "x" * task.value

    jetray = await world.gateway(large)
    limit = 256 * 1024 - 2
    for job_id, size in (("fits", limit), ("moved", limit + 1)):
        await jetray.submit("large", {"id": job_id, "value": size})
        assert await jetray.result_of("large", job_id) == "x" * size
    for job_id, is_moved in (("fits", False), ("moved", True)):
        end = await jetray.end_of("large", job_id)
        assert isinstance(end, Completed)
        assert (b'"artifact"' in bytes(end.result)) is is_moved
