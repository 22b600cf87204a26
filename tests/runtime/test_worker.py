"""One job, whatever becomes of it: errors, retries, deadlines, lost actors, cancels, and what its end leaves behind."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import anyio
import pytest

from contracts import subjects
from contracts.events import Cancelled, Completed, Failed, Progress, Retrying, Spent, Started
from tests.runtime.kinds import Group, Puppet, Task, acting, grouping
from tests.runtime.world import ONE_SLOT, Hooks, World, names, settings
from workers import Fail, JobContext, Retry, job
from workers.core.log import LogView
from workers.kinds.registry import Kind
from workers.runtime.cancel import cancel
from workers.runtime.journal import Journal

pytestmark = pytest.mark.anyio


@job("short", id_field="id")
async def short(task: Task) -> int:
    """Takes no context."""
    await anyio.sleep(task.value)
    return task.value


async def for_ever(ctx: JobContext, task: Task) -> None:
    await anyio.sleep_forever()


@job("short-for-ever", id_field="id")
async def short_for_ever(task: Task) -> None:
    await anyio.sleep_forever()


# --- errors of its own


async def test_an_error_is_tried_again_after_growing_delays_until_its_attempts_are_spent(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind)
    puppet.say("a", ValueError("no such luck"))
    await jetray.submit("puppet", {"id": "a"})
    end = await jetray.end_of("puppet", "a")
    log = await jetray.events("puppet", "a")
    assert names(log) == ["started", "retrying", "started", "retrying", "started", "failed"]
    assert [event.attempt for event in log] == [1, 1, 2, 2, 3, 3]
    first, second = (event for event in log if isinstance(event, Retrying))
    assert (first.delay_ms, second.delay_ms) == (500, 1000), "half of 1 s and of 2 s"
    assert (first.next_attempt, first.spent) == (2, Spent(attempts=1))
    assert (first.error.reason, first.error.type, first.error.message) == ("user", "ValueError", "no such luck")
    assert (log[2].time - log[1].time).total_seconds() == pytest.approx(0.5)
    assert (log[4].time - log[3].time).total_seconds() == pytest.approx(1.0)
    assert isinstance(end, Failed)
    assert (end.error.reason, end.error.type, end.attempts) == ("user", "ValueError", 3)
    [letter] = jetray.dead_letters()
    assert (letter.reason, letter.attempts, letter.sequence) == ("user", 3, end.dlq_sequence)
    assert letter.body == b'{"id":"a"}'


async def test_a_second_attempt_may_succeed(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind)
    puppet.say("a", ValueError("not yet"))
    await jetray.submit("puppet", {"id": "a"})
    await puppet.begun("a")
    puppet.say("a", 5)
    assert await jetray.result_of("puppet", "a") == 5
    assert names(await jetray.events("puppet", "a")) == ["started", "retrying", "started", "completed"]
    assert jetray.dead_letters() == []


@pytest.mark.parametrize("how", ["raised", "returned"])
async def test_fail_ends_it_at_once(world: World, how: str) -> None:
    failure = Fail("never", reason="config")
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind)
    puppet.say("a", failure if how == "raised" else lambda ctx: _returned(failure))
    await jetray.submit("puppet", {"id": "a"})
    end = await jetray.end_of("puppet", "a")
    assert isinstance(end, Failed)
    assert (end.error.reason, end.error.message, end.attempts) == ("config", "never", 1)
    assert names(await jetray.events("puppet", "a")) == ["started", "failed"]


async def test_retry_says_itself_how_long_to_wait(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind)
    puppet.say("a", Retry("the other side is busy", after=70))
    await jetray.submit("puppet", {"id": "a"})
    await puppet.begun("a")
    puppet.say("a", 1)
    await jetray.end_of("puppet", "a")
    _, retrying, start, _ = await jetray.events("puppet", "a")
    assert isinstance(retrying, Retrying)
    assert retrying.delay_ms == 70_000
    assert (start.time - retrying.time).total_seconds() == 70


async def test_a_retry_beyond_the_deadline_ends_it_at_once(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind)
    puppet.say("a", Retry("come back tomorrow", after=86_400))
    await jetray.submit("puppet", {"id": "a"})
    end = await jetray.end_of("puppet", "a")
    assert isinstance(end, Failed)
    assert (end.error.message, end.attempts) == ("come back tomorrow", 1)
    assert names(await jetray.events("puppet", "a")) == ["started", "failed"]


async def test_a_job_that_waits_for_its_next_attempt_holds_no_slot(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, settings=ONE_SLOT)
    puppet.say("a", Retry("later", after=100))
    puppet.say("b", 2)
    await jetray.submit("puppet", {"id": "a"})
    await jetray.submit("puppet", {"id": "b"})
    assert await jetray.result_of("puppet", "b", within_s=10) == 2
    puppet.say("a", 1)
    assert await jetray.result_of("puppet", "a") == 1


async def test_a_result_of_the_wrong_type_fails_with_its_path(world: World) -> None:
    @job("wrong", id_field="id")
    async def wrong(task: Task) -> list[int]:
        return [1, "two"]  # type: ignore[list-item]

    jetray = await world.gateway(wrong)
    await jetray.submit("wrong", {"id": "a"})
    end = await jetray.end_of("wrong", "a")
    assert isinstance(end, Failed)
    assert (end.error.type, end.attempts) == ("BadResult", 1)
    assert "$[" in end.error.message


# --- what ran it dies


async def test_an_attempt_lost_with_its_actor_spends_another_budget(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, settings=settings(retry={"max_lost": 2}))
    await jetray.submit("puppet", {"id": "a"})
    for attempt in (1, 2, 3):
        await puppet.begun("a", attempt)
        [*_, start] = await jetray.events("puppet", "a")
        assert isinstance(start, Started)
        assert (start.attempt, start.spent) == (attempt, Spent(lost=attempt - 1))
        assert start.actor is not None
        jetray.pool.kill(start.actor)
    end = await jetray.end_of("puppet", "a")
    assert isinstance(end, Failed)
    assert (end.error.reason, end.attempts) == ("lost", 3)
    retrying = [event for event in await jetray.events("puppet", "a") if isinstance(event, Retrying)]
    assert [event.spent for event in retrying] == [Spent(lost=1), Spent(lost=2)]
    assert {event.error.reason for event in retrying} == {"lost"}
    assert [letter.reason for letter in jetray.dead_letters()] == ["lost"]
    told = world.kept(subjects.WORKERS, "workers.actor.failed.gw-1")
    assert len(told) == 3
    assert all(b'"puppet.a"' in message.body for message in told)


async def test_a_short_job_lost_with_its_actor_is_tried_again(world: World) -> None:
    jetray = await world.gateway(short)
    await jetray.submit("short", {"id": "a", "value": 50})
    await anyio.sleep(10)
    [start] = await jetray.events("short", "a")
    assert isinstance(start, Started)
    assert start.actor is not None
    jetray.pool.kill(start.actor)
    assert await jetray.result_of("short", "a") == 50
    assert names(await jetray.events("short", "a")) == ["started", "retrying", "started", "completed"]


# --- time is up


@pytest.mark.parametrize("kind", [acting("endless", for_ever), short_for_ever], ids=["with a context", "short"])
async def test_a_job_that_never_ends_fails_at_its_deadline(world: World, kind: Kind) -> None:
    jetray = await world.gateway(kind)
    await jetray.submit(kind.name, {"id": "a"})
    end = await jetray.end_of(kind.name, "a")
    [start, _] = await jetray.events(kind.name, "a")
    assert isinstance(end, Failed)
    assert isinstance(start, Started)
    assert (end.error.reason, end.attempts) == ("deadline", 1)
    assert (start.deadline - start.time).total_seconds() == 600
    assert (end.time - start.time).total_seconds() == pytest.approx(600, abs=2)
    assert [letter.reason for letter in jetray.dead_letters()] == ["deadline"]


async def test_a_job_that_resists_is_dead_before_its_failure_is_told(world: World) -> None:
    async def resist(ctx: JobContext, task: Task) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(700)

    jetray = await world.gateway(acting("stubborn", resist))
    await jetray.submit("stubborn", {"id": "a"})
    end = await jetray.end_of("stubborn", "a")
    [start, _] = await jetray.events("stubborn", "a")
    assert isinstance(end, Failed)
    assert end.error.reason == "deadline"
    assert (end.time - start.time).total_seconds() == pytest.approx(700, abs=2), "only then it is gone"
    told = world.kept(subjects.WORKERS, "workers.actor.failed.gw-1")
    assert [b"ActorKilled" in message.body for message in told] == [True]


async def test_a_publisher_may_shorten_the_deadline_and_not_prolong_it(world: World) -> None:
    jetray = await world.gateway(acting("endless", for_ever, deadline=100))
    await jetray.submit("endless", {"id": "short"}, headers={"Jetray-Deadline": "5"})
    await jetray.submit("endless", {"id": "long"}, headers={"Jetray-Deadline": "100000"})
    for job_id, seconds in (("short", 5), ("long", 100)):
        end = await jetray.end_of("endless", job_id)
        [start, _] = await jetray.events("endless", job_id)
        assert (end.time - start.time).total_seconds() == pytest.approx(seconds, abs=2)


async def test_the_deadline_counts_from_the_first_start_of_a_run(world: World) -> None:
    puppet = Puppet(max_attempts=100)
    jetray = await world.gateway(puppet.kind)
    puppet.say("a", Retry("again", after=150))
    await jetray.submit("puppet", {"id": "a"})
    end = await jetray.end_of("puppet", "a", within_s=3_600)
    starts = [event for event in await jetray.events("puppet", "a") if isinstance(event, Started)]
    assert len({start.deadline for start in starts}) == 1
    assert len(starts) == 4, "at 0, 150, 300 and 450 s; the next would be at 600 s"
    assert isinstance(end, Failed)


# --- cancelled


def _elsewhere(world: World) -> Journal:
    return Journal(world.client, nonce="elsewhere", source="elsewhere")


async def _cancel(world: World, kind: str, job_id: str) -> Any:
    return await cancel(
        _elsewhere(world),
        kind,
        job_id,
        reason="no longer wanted",
        requested_by="the test",
        gateway="elsewhere",
        now=world.client.server_now,
        origin="CONTROL:1",
    )


@pytest.mark.parametrize("kind", [acting("endless", for_ever), short_for_ever], ids=["with a context", "short"])
async def test_a_running_job_that_is_cancelled_stops(world: World, kind: Kind) -> None:
    jetray = await world.gateway(kind)
    await jetray.submit(kind.name, {"id": "a"})
    await anyio.sleep(10)
    end = await _cancel(world, kind.name, "a")
    assert isinstance(end, Cancelled)
    assert end.stage == "running"
    await world.settled(lambda: jetray.leaks() == [], within_s=1)
    assert world.kept(subjects.JOBS) == [], "acknowledged"
    assert names(await jetray.events(kind.name, "a")) == ["started", "cancelled"]
    assert jetray.dead_letters() == []


@pytest.mark.parametrize("kind", [acting("endless", for_ever), short_for_ever], ids=["with a context", "short"])
async def test_a_job_cancelled_before_its_start_is_known_here_stops_too(world: World, kind: Kind) -> None:
    hooks = Hooks()
    jetray = await world.gateway(kind, hooks=hooks)

    async def cancel_it(op: str, subject: str) -> None:
        if (op, subject) == ("publish", f"orchestration.{kind.name}.started.a"):
            await _cancel(world, kind.name, "a")
            await anyio.sleep(1)

    hooks.on_after = cancel_it
    await jetray.submit(kind.name, {"id": "a"})
    await anyio.sleep(3)
    assert jetray.leaks() == []
    assert names(await jetray.events(kind.name, "a")) == ["started", "cancelled"]
    assert world.kept(subjects.JOBS) == []


@pytest.mark.parametrize("kind", [acting("endless", for_ever), short_for_ever], ids=["with a context", "short"])
async def test_old_news_of_a_cancel_stops_no_job(world: World, kind: Kind) -> None:
    """As a watch that lags behind may bring it: of a run before this one."""
    jetray = await world.gateway(kind)
    await jetray.submit(kind.name, {"id": "a"}, headers={"Jetray-Deadline": "50"})
    await anyio.sleep(10)
    [worker] = jetray.rooms.live
    worker.tell(LogView(sequence=0))
    end = await jetray.end_of(kind.name, "a")
    assert isinstance(end, Failed)
    assert end.error.reason == "deadline"


async def test_a_job_cancelled_between_two_attempts_never_starts_again(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind)
    puppet.say("a", Retry("later", after=60))
    await jetray.submit("puppet", {"id": "a"})
    await anyio.sleep(10)
    end = await _cancel(world, "puppet", "a")
    assert isinstance(end, Cancelled)
    assert end.stage == "delayed"
    await anyio.sleep(100)
    assert puppet.attempts == [("a", 1)]
    assert names(await jetray.events("puppet", "a")) == ["started", "retrying", "cancelled"]


async def test_a_job_cancelled_in_the_queue_never_starts(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind)
    end = await _cancel(world, "puppet", "a")
    assert isinstance(end, Cancelled)
    assert end.stage == "queued"
    await jetray.submit("puppet", {"id": "a"})
    await anyio.sleep(10)
    assert puppet.attempts == []
    assert names(await jetray.events("puppet", "a")) == ["cancelled"]
    assert world.kept(subjects.JOBS) == []


async def test_a_cancel_that_comes_too_late_changes_nothing(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind)
    puppet.say("a", 1)
    await jetray.submit("puppet", {"id": "a"})
    await jetray.end_of("puppet", "a")
    assert isinstance(await _cancel(world, "puppet", "a"), Completed)
    assert names(await jetray.events("puppet", "a")) == ["started", "completed"]


async def test_a_cancelled_child_is_told_to_its_batch(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, grouping())
    await jetray.submit("group", Group(id="g", members=["a", "b"]))
    await puppet.begun("g-a")
    puppet.say("g-b", 1)
    await _cancel(world, "puppet", "g-a")
    assert await jetray.result_of("group", "g", within_s=5) == [
        ["g-a", "cancelled", "cancelled_child"],
        ["g-b", "completed", 1],
    ]


# --- what it says


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
    end = await jetray.end_of("runner", "a")
    assert (end.time - progress[-1].time).total_seconds() < 0.05, "the last one does not hold up the end"


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


async def _returned(value: Any) -> Any:
    return value
