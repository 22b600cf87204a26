"""One job, whatever becomes of it: errors, retries, deadlines, lost actors."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from contracts import subjects
from contracts.events import Failed, Retrying, Spent, Started
from tests.runtime.kinds import ENDLESS, Puppet, Task, acting, for_ever, short
from tests.runtime.world import ONE_SLOT, World, names, settings
from workers import Fail, JobContext, Retry, job
from workers.kinds.registry import Kind

pytestmark = pytest.mark.anyio


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


@pytest.mark.parametrize("kind", ENDLESS, ids=lambda kind: str(kind.name))
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


async def test_an_attempt_that_takes_too_long_is_followed_by_another(world: World) -> None:
    seen: list[float] = []

    async def slow_at_first(ctx: JobContext, task: Task) -> int:
        seen.append(ctx.remaining_s)
        await anyio.sleep(300 if ctx.attempt < 3 else 10)
        return ctx.attempt

    jetray = await world.gateway(acting("slow", slow_at_first, attempt_deadline=20, max_attempts=3))
    await jetray.submit("slow", {"id": "a"})
    assert await jetray.result_of("slow", "a") == 3
    log = await jetray.events("slow", "a")
    assert names(log) == ["started", "retrying", "started", "retrying", "started", "completed"]
    assert isinstance(log[1], Retrying)
    assert (log[1].error.reason, log[1].error.retryable, log[1].spent.attempts) == ("deadline", True, 1)
    assert (log[1].time - log[0].time).total_seconds() == pytest.approx(20, abs=2)
    assert len({event.deadline for event in log if isinstance(event, Started)}) == 1
    assert all(left == pytest.approx(20, abs=1) for left in seen)


async def test_one_that_resists_is_killed_and_followed_by_another(world: World) -> None:
    async def resist(ctx: JobContext, task: Task) -> int:
        with anyio.CancelScope(shield=ctx.attempt == 1):
            await anyio.sleep(100)
        return ctx.attempt

    terms = settings(kinds={"settings": {"stubborn": {"attempt_deadline_s": 30}}}, retry={"base_s": 0.001})
    jetray = await world.gateway(acting("stubborn", resist, attempt_deadline=5, max_attempts=2), settings=terms)
    await jetray.submit("stubborn", {"id": "a"})
    end = await jetray.end_of("stubborn", "a")
    log = await jetray.events("stubborn", "a")
    assert names(log) == ["started", "retrying", "started", "failed"]
    assert isinstance(log[1], Retrying)
    assert isinstance(end, Failed)
    assert (log[1].error.reason, end.error.reason, end.attempts) == ("deadline", "deadline", 2)
    assert "killed" in log[1].error.message
    assert (end.time - log[2].time).total_seconds() == pytest.approx(30, abs=2), "the operator's word"


async def test_past_the_jobs_own_deadline_nothing_follows(world: World) -> None:
    kind = acting("endless", for_ever, deadline=50, attempt_deadline=40, max_attempts=9, retry_base=0.001)
    jetray = await world.gateway(kind)
    await jetray.submit("endless", {"id": "a"})
    end = await jetray.end_of("endless", "a")
    log = await jetray.events("endless", "a")
    assert names(log) == ["started", "retrying", "started", "failed"]
    assert isinstance(end, Failed)
    assert (end.error.reason, end.error.retryable) == ("deadline", False)
    assert (end.time - log[0].time).total_seconds() == pytest.approx(50, abs=2)


async def test_an_error_that_its_kind_does_not_retry_ends_the_job(world: World) -> None:
    async def fail(ctx: JobContext, task: Task) -> None:
        raise KeyError("x") if task.value else ValueError("x")

    jetray = await world.gateway(acting("picky", fail, no_retry=KeyError, max_attempts=2))
    for job_id, value, log in (("a", 1, ["started", "failed"]), ("b", 0, ["started", "retrying", "started", "failed"])):
        await jetray.submit("picky", {"id": job_id, "value": value})
        await jetray.end_of("picky", job_id)
        assert names(await jetray.events("picky", job_id)) == log


async def _returned(value: Any) -> Any:
    return value
