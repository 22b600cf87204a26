"""Pools keep their actors: sizes, spares, recycling, heartbeats and the circuit. On every pool alike."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from contracts.calls import Gone, Returned
from infra.pool.base import Pool
from infra.pool.memory import MemoryPool
from tests.conformance.pool import hosts
from tests.conformance.pool.worlds import World, begin, call, finish, underway

pytestmark = pytest.mark.anyio

STOPPED = Returned(result=b'"stopped"')


def states(pool: Pool) -> dict[str, int]:
    """How many actors are in each state that any is in."""
    report = pool.report()["default"]
    return {name: report[name] for name in ("starting", "ready", "busy", "draining", "dead") if report[name]}


# --- size -------------------------------------------------------------------------------------------------------------


async def test_a_pool_grows_and_shrinks_and_disturbs_no_job(world: World) -> None:
    async with world.pool(actors=3, min_actors=1) as pool:
        (created,) = await world.heard("created")
        assert len(created.actors) == 1
        if world.one_at_a_time:
            assert (pool.resize("default", 3), pool.resize("default", 0)) == (1, 1)
            assert isinstance(await finish(pool, call("echo")), Returned)
            return
        running = [await begin(pool, call("holds", job="J1", streams=True))]
        assert (pool.resize("default", 4), pool.slots("default", exclusive=False).total) == (3, 3)
        await world.heard("initialized", times=3)
        running += [await begin(pool, call("holds", job=f"J{number}", streams=True)) for number in (2, 3)]
        for execution in running:
            await underway(execution)
        assert states(pool) == {"busy": 3}
        assert pool.resize("default", 1) == 1
        await anyio.wait_all_tasks_blocked()
        assert states(pool) == {"busy": 1, "draining": 2}
        # What still runs on those that leave counts as room that is taken, so nothing is pulled in its place.
        slots = pool.slots("default", exclusive=False)
        assert (slots.total, slots.ready, slots.free) == (1, 3, 0)
        for execution in running:
            await execution.stop(30)
            assert await execution.outcome() == STOPPED
        retired = await world.heard("retired", times=2)
        assert {(event.reason, event.executions) for event in retired} == {("scaled_down", 1)}
        assert isinstance(await finish(pool, call("echo")), Returned)
        assert not world.of("failed")
        assert not world.of("restarted")


async def test_idle_actors_that_are_too_many_go_at_once(world: World) -> None:
    if world.one_at_a_time:
        pytest.skip("it has one")
    async with world.pool(actors=2) as pool:
        await world.heard("created")
        pool.resize("default", 1)
        (retired,) = await world.heard("retired")
        assert (retired.reason, retired.executions) == ("scaled_down", 0)
        assert states(pool) == {"ready": 1}
        assert isinstance(await finish(pool, call("echo")), Returned)


# --- recycling --------------------------------------------------------------------------------------------------------


async def test_each_job_may_have_a_fresh_actor(world: World) -> None:
    async with world.pool(concurrency=2, recycle_jobs=1) as pool:
        actors = []
        for _ in range(3):
            reservation = await pool.reserve("default", exclusive=False)
            actors.append(reservation.actor)
            assert pool.slots("default", exclusive=False).free == 0
            assert isinstance(await reservation.start(call("echo")).outcome(), Returned)
        assert len(set(actors)) == 3
        retired = await world.heard("retired", times=3)
        assert [(event.actor, event.reason, event.executions) for event in retired] == [
            (actor, "recycled", 1) for actor in actors
        ]
        assert not world.of("failed")
        assert not world.of("restarted")


async def test_an_actor_is_replaced_after_so_many_jobs_of_one_call(world: World) -> None:
    async with world.pool(recycle_jobs=3) as pool:
        reservation = await pool.reserve("default", exclusive=False)
        batch = reservation.start_many([call("echo", job=f"J{number}") for number in range(4)])
        assert all(isinstance(outcome, Returned) for outcome in (await batch.ran()).outcomes)
        (retired,) = await world.heard("retired")
        assert (retired.actor, retired.reason, retired.executions) == (reservation.actor, "recycled", 4)
        assert isinstance(await finish(pool, call("echo")), Returned)


async def test_an_actor_that_takes_too_much_memory_goes_once_it_is_idle(world: World) -> None:
    async with world.pool(recycle_rss=1_000_000) as pool:
        execution = await begin(pool, call("holds", streams=True))
        await underway(execution)
        (ready,) = world.of("initialized")
        if isinstance(pool, MemoryPool):
            pool.swell(ready.actor, 1_000_001)
        while states(pool) != {"draining": 1}:  # noqa: ASYNC110 - nothing tells of it
            await anyio.sleep(0.05)
        await execution.stop(30)
        assert await execution.outcome() == STOPPED
        retired = (await world.heard("retired"))[0]
        assert (retired.actor, retired.reason, retired.executions) == (ready.actor, "recycled", 1)
        assert not world.of("failed")


async def test_memory_within_bounds_does_no_harm(world: World) -> None:
    async with world.pool(recycle_rss=2**40) as pool:
        execution = await begin(pool, call("naps", b"0", exclusive=True))
        assert await execution.outcome() == Returned(result=b'"rested"')
        if isinstance(pool, MemoryPool):
            pool.swell("jetray-gw-1-default-1", 2**40)
            await anyio.sleep(1)
        else:
            await anyio.sleep(2.5)
        assert states(pool) == {"ready": 1}
        assert not world.of("retired")


# --- spares -----------------------------------------------------------------------------------------------------------


async def test_a_spare_takes_over_and_is_replaced(world: World) -> None:
    async with world.pool(spares=1) as pool:
        first, spare = await world.heard("initialized", times=2)
        execution = await begin(pool, call("holds", streams=True))
        pid = await underway(execution)
        assert pool.slots("default", exclusive=False).total == 1
        assert states(pool) == {"ready": 1, "busy": 1}
        world.slay(pool, first.actor, pid)
        reservation = await pool.reserve("default", exclusive=False)
        assert reservation.actor == spare.actor
        assert len(world.of("initialized")) == 2
        reservation.release()
        assert isinstance(await execution.outcome(), Gone)
        (restarted,) = await world.heard("restarted")
        assert (restarted.actor, restarted.replaces, restarted.restarts) == (spare.actor, first.actor, 1)
        assert [event.what for event in world.events].index("failed") < world.events.index(restarted)
        await world.heard("initialized", times=3)
        assert states(pool) == {"ready": 2}
        assert isinstance(await finish(pool, call("echo")), Returned)


async def test_a_spare_stands_in_for_an_actor_that_is_recycled(world: World) -> None:
    async with world.pool(spares=1, recycle_jobs=1) as pool:
        first, spare = await world.heard("initialized", times=2)
        execution = await begin(pool, call("holds", streams=True))
        await underway(execution)
        # It has had its one job, and so another takes the next while it still runs.
        reservation = await pool.reserve("default", exclusive=False)
        assert reservation.actor == spare.actor
        reservation.release()
        await execution.stop(30)
        assert await execution.outcome() == STOPPED
        await world.heard("retired", times=2)
        assert not world.of("failed")
        assert first.actor in {event.actor for event in world.of("retired")}


# --- heartbeat --------------------------------------------------------------------------------------------------------


async def test_an_actor_whose_loop_does_not_answer_is_killed_and_replaced(world: World) -> None:
    async with world.pool(silent_s=0.5) as pool:
        execution = await begin(pool, call("blocks" if world.separate else "holds", streams=True))
        await underway(execution)
        if isinstance(pool, MemoryPool):
            pool.silence("jetray-gw-1-default-1")
        outcome = await execution.outcome()
        assert isinstance(outcome, Gone)
        assert (outcome.error.reason, outcome.error.type) == ("lost", "ActorSilent")
        (restarted,) = await world.heard("restarted")
        assert restarted.reason == "ActorSilent"
        assert isinstance(await finish(pool, call("echo")), Returned)


async def test_a_sync_job_may_keep_its_loop_to_itself(world: World) -> None:
    async with world.pool(silent_s=0.3) as pool:
        if isinstance(pool, MemoryPool):
            execution = await begin(pool, call("holds", streams=True, exclusive=True))
            await underway(execution)
            pool.silence("jetray-gw-1-default-1")
            await anyio.sleep(1)
            await execution.stop(30)
            assert await execution.outcome() == STOPPED
            await world.heard("failed")
        else:
            assert await finish(pool, call("naps", b"4", exclusive=True)) == Returned(result=b'"rested"')
            assert not world.of("failed")


# --- the circuit ------------------------------------------------------------------------------------------------------


async def test_a_pool_none_of_whose_actors_can_start_says_so_and_tries_one_now_and_then(
    world: World, tmp_path: Path
) -> None:
    flag = tmp_path / "broken"
    async with world.pool(factory=hosts.FRAGILE, config=str(flag).encode()) as pool:
        execution = await begin(pool, call("holds", streams=True))
        (ready,) = await world.heard("initialized")
        pid = await underway(execution)
        flag.touch()
        world.slay(pool, ready.actor, pid)
        (halted,) = await world.heard("halted")
        assert halted.error is not None
        assert (halted.error.reason, halted.error.type) == ("config", "OSError")
        assert pool.report()["default"]["circuit"] == "open"
        failed = len(world.of("failed"))
        assert failed == 1 + 5
        flag.unlink()
        await world.heard("resumed")
        assert len(world.of("failed")) - failed <= 1
        assert pool.report()["default"]["circuit"] == "closed"
        assert isinstance(await finish(pool, call("echo")), Returned)
        assert (len(world.of("halted")), len(world.of("resumed"))) == (1, 1)
