"""What every pool promises, shown on each of the three."""

from __future__ import annotations

import anyio
import pytest
from anyio.abc import TaskStatus

from contracts.calls import Emitted, Gone, Raised, Reported, Returned
from infra.pool.base import ConfigError, Pool, Reservation, Slots
from tests.conformance.pool import hosts
from tests.conformance.pool.worlds import CONFIG, World, begin, call, finish, is_running, underway

pytestmark = pytest.mark.anyio

both_ways = pytest.mark.parametrize("streams", [False, True], ids=["plain", "streams"])


# --- outcomes and frames ----------------------------------------------------------------------------------------------


@both_ways
async def test_a_result_comes_back(world: World, streams: bool) -> None:
    async with world.pool() as pool:
        assert await finish(pool, call("echo", b'{"a":1}', streams=streams)) == Returned(result=b'{"a":1}|' + CONFIG)


@both_ways
async def test_a_raised_error_comes_back(world: World, streams: bool) -> None:
    async with world.pool() as pool:
        outcome = await finish(pool, call("raises", streams=streams))
    assert isinstance(outcome, Raised)
    assert (outcome.error.type, outcome.error.message) == ("ValueError", "no such catalogue")


@both_ways
async def test_large_inputs_and_results_pass(world: World, streams: bool) -> None:
    text = b"x" * (1 << 20)
    async with world.pool() as pool:
        outcome = await finish(pool, call("echo", text, streams=streams))
    assert isinstance(outcome, Returned)
    assert outcome.result == text + b"|" + CONFIG


async def test_frames_come_in_order_and_then_the_outcome(world: World) -> None:
    async with world.pool() as pool:
        execution = await begin(pool, call("talks", b"20", streams=True))
        frames = [frame async for frame in execution.frames()]
        assert await execution.outcome() == Returned(result=b'"said"')
    assert frames == [Emitted(topic="response", name="progress", body=b'{"step":%d}' % step) for step in range(20)]


async def test_an_outcome_needs_no_reader_of_frames(world: World) -> None:
    async with world.pool() as pool:
        assert await finish(pool, call("talks", b"20", streams=True)) == Returned(result=b'"said"')


async def test_of_reports_in_quick_succession_the_last_one_counts(world: World) -> None:
    async with world.pool() as pool:
        execution = await begin(pool, call("chatters", b"5000", streams=True))
        await execution.outcome()
        done = [frame.done async for frame in execution.frames() if isinstance(frame, Reported)]
    assert done == [4999]


async def test_a_frame_that_nobody_could_read_fails_where_it_is_sent(world: World) -> None:
    async with world.pool() as pool:
        outcome = await finish(pool, call("mumbles", streams=True))
    assert isinstance(outcome, Raised)
    assert outcome.error.type == "Undecodable"


@both_ways
@pytest.mark.parametrize(("kind", "error"), [("breaks", "KeyError"), ("exits", "SystemExit")])
async def test_a_host_that_breaks_loses_that_call_alone(world: World, streams: bool, kind: str, error: str) -> None:
    async with world.pool() as pool:
        outcome = await finish(pool, call(kind, streams=streams))
        assert isinstance(outcome, Gone)
        assert (outcome.error.reason, outcome.error.type) == ("lost", error)
        assert isinstance(await finish(pool, call("echo")), Returned)
        assert not world.of("failed")


@both_ways
async def test_a_task_that_exits_loses_that_call_alone(world: World, streams: bool) -> None:
    if not world.separate:
        pytest.skip("this would end the tests' own loop")
    async with world.pool() as pool:
        outcome = await finish(pool, call("exits_within", streams=streams))
        assert isinstance(outcome, Gone)
        assert "SystemExit: 3" in outcome.error.message or outcome.error.type == "ExceptionGroup"
        assert isinstance(await finish(pool, call("echo")), Returned)
        assert not world.of("failed")


@both_ways
async def test_a_cancellation_of_its_own_loses_that_call_alone(world: World, streams: bool, anyio_backend: str) -> None:
    if anyio_backend == "trio":
        pytest.skip("trio knows no cancellation that nobody asked for")
    async with world.pool() as pool:
        outcome = await finish(pool, call("cancels_itself", streams=streams))
        assert isinstance(outcome, Gone)
        assert outcome.error.type == "CancelledError"
        assert isinstance(await finish(pool, call("echo")), Returned)
        assert not world.of("failed")


async def test_what_a_job_prints_does_no_harm(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    async with world.pool() as pool:
        assert await finish(pool, call("prints")) == Returned(result=b"null")
        assert isinstance(await finish(pool, call("echo")), Returned)
    assert ("hello" in capfd.readouterr().out) == (not world.separate)


# --- many in one call -------------------------------------------------------------------------------------------------


async def test_outcomes_of_many_come_in_the_order_of_their_calls(world: World) -> None:
    async with world.pool() as pool:
        reservation = await pool.reserve("default", exclusive=True)
        batch = reservation.start_many(
            [
                call("echo", b"1", job="J1", exclusive=True),
                call("raises", job="J2", exclusive=True),
                call("breaks", job="J3", exclusive=True),
                call("echo", b"4", job="J4", exclusive=True),
            ]
        )
        first, second, third, fourth = (await batch.ran()).outcomes
        assert pool.slots("default", exclusive=True).free == 1
    assert (first, fourth) == (Returned(result=b"1|" + CONFIG), Returned(result=b"4|" + CONFIG))
    assert isinstance(second, Raised)
    assert isinstance(third, Gone)
    assert sum(event.executions for event in world.of("retired")) == 4


async def test_a_call_that_is_killed_takes_all_of_its_jobs_along(world: World) -> None:
    async with world.pool() as pool:
        reservation = await pool.reserve("default", exclusive=False)
        batch = reservation.start_many([call("echo", job="J1"), call("sleeps", job="J2"), call("echo", job="J3")])
        await batch.stop(0.2)
        outcomes = (await batch.ran()).outcomes
        assert [type(outcome) for outcome in outcomes] == [Gone, Gone, Gone]
        assert isinstance(await finish(pool, call("echo")), Returned)
    failed = world.of("failed")[0]
    assert failed.jobs == ("echo.J1", "echo.J3", "sleeps.J2")


async def test_a_call_that_ends_in_time_is_not_killed(world: World) -> None:
    async with world.pool() as pool:
        reservation = await pool.reserve("default", exclusive=False)
        batch = reservation.start_many([call("echo", job="J1"), call("echo", job="J2")])
        await batch.stop(30)
        assert [type(outcome) for outcome in (await batch.ran()).outcomes] == [Returned, Returned]
    assert not world.of("failed")


async def test_an_actor_that_dies_over_one_of_many_loses_them_all(world: World) -> None:
    if not world.separate:
        pytest.skip("a job that ends its process would end the tests")
    async with world.pool() as pool:
        reservation = await pool.reserve("default", exclusive=False)
        batch = reservation.start_many([call("echo", job="J1"), call("dies", job="J2"), call("echo", job="J3")])
        outcomes = (await batch.ran()).outcomes
        assert [type(outcome) for outcome in outcomes] == [Gone, Gone, Gone]
        assert isinstance(await finish(pool, call("echo")), Returned)


# --- slots ------------------------------------------------------------------------------------------------------------


async def test_there_is_no_room_until_an_actor_is_ready(world: World) -> None:
    pool = world.unserved(actors=2, concurrency=3)
    total = 1 if world.one_at_a_time else 6
    assert pool.slots("default", exclusive=False) == Slots(total=total, ready=0, free=0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pool.serve, world.listen)
        await pool.wait_free("default", exclusive=False)
        assert world.of("initialized")
        await world.heard("created")
        assert pool.slots("default", exclusive=False) == Slots(total=total, ready=total, free=total)
        assert pool.slots("default", exclusive=True).free == (1 if world.one_at_a_time else 2)
        tasks.cancel_scope.cancel()


async def test_shared_calls_share_an_actor_up_to_its_concurrency(world: World) -> None:
    size = 1 if world.one_at_a_time else 2
    async with world.pool(concurrency=2) as pool:
        held = [await begin(pool, call("holds", job=f"J{n}", streams=True)) for n in range(size)]
        assert len({await underway(execution) for execution in held}) == 1
        assert pool.slots("default", exclusive=False) == Slots(total=size, ready=size, free=0)
        async with anyio.create_task_group() as tasks:
            waiting = await tasks.start(reserved, pool, False)
            await anyio.wait_all_tasks_blocked()
            assert waiting == []
            await held[0].stop(30)
            # Whoever waited has it before anybody who asks now.
            assert pool.slots("default", exclusive=False).free == 0
        waiting[0].release()
        assert pool.slots("default", exclusive=False).free == 1


async def test_an_exclusive_call_has_an_actor_to_itself(world: World) -> None:
    async with world.pool(concurrency=3) as pool:
        alone = await begin(pool, call("holds", streams=True, exclusive=True))
        await underway(alone)
        assert pool.slots("default", exclusive=False).free == 0
        assert pool.slots("default", exclusive=True).free == 0
        await alone.stop(30)
        shared = await begin(pool, call("holds", streams=True))
        assert pool.slots("default", exclusive=True).free == 0
        await shared.stop(30)
        assert pool.slots("default", exclusive=True).free == 1


async def test_actors_run_side_by_side(world: World) -> None:
    size = 1 if world.one_at_a_time else 2
    async with world.pool(actors=2) as pool:
        await world.heard("created")
        held = [await begin(pool, call("holds", job=f"J{n}", streams=True)) for n in range(size)]
        pids = {await underway(execution) for execution in held}
        assert len(pids) == (size if world.separate else 1)
        for execution in held:
            await execution.stop(30)


async def test_whoever_asked_first_is_served_first(world: World) -> None:
    async with world.pool() as pool:
        first = await pool.reserve("default", exclusive=False)
        served: list[int] = []

        async def ask(number: int, *, task_status: TaskStatus[None]) -> None:
            task_status.started()
            reservation = await pool.reserve("default", exclusive=number % 2 == 0)
            served.append(number)
            reservation.release()

        async with anyio.create_task_group() as tasks:
            for number in range(5):
                await tasks.start(ask, number)
                await anyio.wait_all_tasks_blocked()
            first.release()
        assert served == [0, 1, 2, 3, 4]


async def test_whoever_stops_waiting_leaves_no_slot_behind(world: World) -> None:
    async with world.pool() as pool:
        first = await pool.reserve("default", exclusive=False)
        with anyio.move_on_after(0):
            await pool.reserve("default", exclusive=True)
        async with anyio.create_task_group() as tasks:
            got = await tasks.start(reserved, pool, False)
            await anyio.wait_all_tasks_blocked()
            # The slot is granted and its taker cancelled in one turn of the loop: it has the slot, or nobody has.
            first.release()
            tasks.cancel_scope.cancel()
        for reservation in got:
            reservation.release()
        assert pool.slots("default", exclusive=False).free == 1


async def test_a_slot_is_used_once(world: World) -> None:
    async with world.pool() as pool:
        reservation = await pool.reserve("default", exclusive=False)
        execution = reservation.start(call("holds", streams=True))
        reservation.release()
        assert pool.slots("default", exclusive=False).free == 0
        with pytest.raises(RuntimeError, match="used"):
            reservation.start(call("echo"))
        await execution.stop(30)
        unused = await pool.reserve("default", exclusive=False)
        unused.release()
        unused.release()
        assert pool.slots("default", exclusive=False).free == 1


# --- lost actors ------------------------------------------------------------------------------------------------------


async def test_a_lost_actor_loses_its_job_and_is_replaced(world: World) -> None:
    async with world.pool() as pool:
        execution = await begin(pool, call("holds", streams=True))
        (ready,) = await world.heard("initialized")
        world.slay(pool, ready.actor, await underway(execution))
        outcome = await execution.outcome()
        assert isinstance(outcome, Gone)
        assert (outcome.error.reason, outcome.error.type, outcome.error.retryable) == ("lost", "ActorDiedError", True)
        (failed,) = await world.heard("failed")
        assert (failed.actor, failed.jobs, failed.executions) == (ready.actor, ("holds.J1",), 0)
        assert failed.error == outcome.error
        (restarted,) = await world.heard("restarted")
        assert (restarted.replaces, restarted.restarts, restarted.reason) == (ready.actor, 1, "ActorDiedError")
        assert isinstance(await finish(pool, call("echo")), Returned)
        assert restarted.actor != ready.actor
        assert pool.slots("default", exclusive=False).free == 1


async def test_an_idle_actor_that_dies_is_replaced(world: World) -> None:
    async with world.pool() as pool:
        execution = await begin(pool, call("holds", streams=True))
        pid = await underway(execution)
        await execution.stop(30)
        (ready,) = await world.heard("initialized")
        world.slay(pool, ready.actor, pid)
        (failed,) = await world.heard("failed")
        assert (failed.jobs, failed.executions) == ((), 1)
        assert isinstance(await finish(pool, call("echo")), Returned)


async def test_a_job_may_take_its_process_along(world: World) -> None:
    if not world.separate:
        pytest.skip("this would be the tests' own process")
    async with world.pool() as pool:
        for streams in (False, True):
            outcome = await finish(pool, call("dies", streams=streams))
            assert isinstance(outcome, Gone)
            assert outcome.error.reason == "lost"
        assert isinstance(await finish(pool, call("echo")), Returned)


async def test_a_slot_on_an_actor_that_died_is_a_lost_attempt(world: World) -> None:
    async with world.pool() as pool:
        execution = await begin(pool, call("holds", streams=True))
        pid = await underway(execution)
        await execution.stop(30)
        reservation = await pool.reserve("default", exclusive=False)
        world.slay(pool, reservation.actor, pid)
        await world.heard("failed")
        outcome = await reservation.start(call("echo")).outcome()
        assert isinstance(outcome, Gone)
        assert outcome.error.reason == "lost"
        assert isinstance(await finish(pool, call("echo")), Returned)
        assert pool.slots("default", exclusive=False).free == 1


# --- stopping ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["holds", "grinds"], ids=["async", "sync"])
async def test_a_job_that_heeds_is_stopped_and_its_actor_lives(world: World, kind: str) -> None:
    async with world.pool() as pool:
        execution = await begin(pool, call(kind, streams=True, exclusive=True))
        await underway(execution)
        await execution.stop(30)
        assert await execution.outcome() == Returned(result=b'"stopped"')
        assert isinstance(await finish(pool, call("echo")), Returned)
        assert not world.of("failed")


@both_ways
async def test_a_job_that_has_not_begun_yet_is_stopped_too(world: World, streams: bool) -> None:
    async with world.pool() as pool:
        execution = await begin(pool, call("holds", streams=True))
        await execution.stop(30)
        assert await execution.outcome() == Returned(result=b'"stopped"')


async def test_a_job_that_does_not_heed_is_killed(world: World) -> None:
    async with world.pool() as pool:
        execution = await begin(pool, call("persists", streams=True))
        pid = await underway(execution)
        await execution.stop(0.1)
        if world.separate:
            assert not is_running(pid)
        outcome = await execution.outcome()
        assert isinstance(outcome, Gone)
        assert (outcome.error.reason, outcome.error.type) == ("lost", "ActorKilled")
        (restarted,) = await world.heard("restarted")
        assert restarted.reason == "ActorKilled"
        assert isinstance(await finish(pool, call("echo")), Returned)


async def test_a_job_that_blocks_its_loop_is_killed(world: World) -> None:
    if not world.separate:
        pytest.skip("this would block the tests themselves")
    async with world.pool() as pool:
        execution = await begin(pool, call("blocks", streams=True))
        pid = await underway(execution)
        await execution.stop(0.1)
        assert not is_running(pid)
        assert isinstance(await finish(pool, call("echo")), Returned)


async def test_a_killed_job_takes_its_neighbours_along(world: World) -> None:
    async with world.pool(concurrency=2) as pool:
        if world.one_at_a_time:
            pytest.skip("it has none")
        stubborn = await begin(pool, call("persists", job="J1", streams=True))
        neighbour = await begin(pool, call("holds", job="J2", streams=True))
        await underway(stubborn)
        await underway(neighbour)
        await stubborn.stop(0.1)
        outcome = await neighbour.outcome()
        assert isinstance(outcome, Gone)
        assert "persists.J1 did not stop" in outcome.error.message
        (failed,) = await world.heard("failed")
        assert failed.jobs == ("holds.J2", "persists.J1")


async def test_to_stop_what_has_ended_does_nothing(world: World) -> None:
    async with world.pool() as pool:
        execution = await begin(pool, call("echo"))
        await execution.outcome()
        await execution.stop(0)
        assert isinstance(await execution.outcome(), Returned)
        assert isinstance(await finish(pool, call("echo")), Returned)
        assert not world.of("failed")


# --- start and end ----------------------------------------------------------------------------------------------------


async def test_a_host_that_cannot_be_built_is_one_clear_line(world: World) -> None:
    with pytest.raises(ConfigError) as refused:
        await world.unserved(actors=2, factory=hosts.BROKEN).serve(world.listen)
    assert str(refused.value) == (
        "profile default: no actor can start: ValueError: there is no model at /models/missing"
    )
    failed = world.of("failed")[0]
    assert failed.error is not None
    assert (failed.error.reason, failed.error.type, failed.error.retryable) == ("config", "ValueError", False)


async def test_a_pool_tells_of_its_actors(world: World) -> None:
    count = 1 if world.one_at_a_time else 2
    async with world.pool(actors=2) as pool:
        (created,) = await world.heard("created")
        await finish(pool, call("echo"))
    initialized = world.of("initialized")
    retired = world.of("retired")
    names = [f"jetray-gw-1-default-{number}" for number in range(1, count + 1)]
    assert (created.profile, sorted(created.actors)) == ("default", names)
    assert sorted(event.actor for event in initialized) == names
    assert all(event.duration_s >= 0 for event in initialized)
    assert sorted(event.actor for event in retired) == names
    assert sum(event.executions for event in retired) == 1
    assert sorted(event.actor for event in world.of("employed")) == names
    assert len(world.events) == 1 + 3 * count


async def test_a_pool_stopped_while_busy_leaves_nothing_running(world: World) -> None:
    async with world.pool() as pool:
        execution = await begin(pool, call("persists", streams=True))
        pid = await underway(execution)
    outcome = await execution.outcome()
    assert isinstance(outcome, Gone)
    assert (outcome.error.reason, outcome.error.type) == ("lost", "PoolStopped")
    await execution.stop(30)
    if world.separate:
        assert not is_running(pid)
    assert [event.reason for event in world.of("retired")] == ["stopped"]


async def test_a_pool_stopped_while_it_starts_leaves_nothing_running(world: World) -> None:
    async with world.pool(actors=3):
        await anyio.lowlevel.checkpoint()
    assert not world.of("failed")


async def reserved(pool: Pool, exclusive: bool, *, task_status: TaskStatus[list[Reservation]]) -> None:
    """Reserve, in a task of its own; the list then holds the reservation."""
    got: list[Reservation] = []
    task_status.started(got)
    got.append(await pool.reserve("default", exclusive=exclusive))
