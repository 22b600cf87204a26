"""`infra.pool.staff` in virtual time: who is started when, who goes first, and what there is room for."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from trio.testing import MockClock

from contracts.calls import Call, Gone, Returned
from contracts.errors import ErrorInfo
from infra.pool.actor import lost, unfit
from infra.pool.base import Execution, Host, PoolEvent, Profile
from infra.pool.memory import MemoryPool
from tests.conformance.pool.worlds import begin, call

pytestmark = pytest.mark.anyio

PREFIX = "jetray-memory-default-"


@pytest.fixture
def anyio_backend() -> Any:
    return ("trio", {"clock": MockClock(autojump_threshold=0)})


class Patient:
    """A host whose jobs end when they are told to."""

    def __init__(self) -> None:
        self.told: dict[str, anyio.Event] = {}

    async def execute(self, called: Call, send: object) -> Returned:
        self.told[called.job] = anyio.Event()
        await self.told[called.job].wait()
        return Returned(result=b"null")

    def cancel(self, job: str) -> bool:
        if job in self.told:
            self.told[job].set()
        return job in self.told


class Company:
    """A pool, and what it told and when."""

    def __init__(self, **recipe: Any) -> None:
        self.hire: Callable[[], Host | ErrorInfo] = Patient
        beat_s = recipe.pop("beat_s", None)
        self.pool = MemoryPool([Profile(name="default", **recipe)], lambda: self.hire(), beat_s=beat_s)  # type: ignore[return-value,arg-type]
        self.events: list[tuple[float, PoolEvent]] = []

    def hear(self, event: PoolEvent) -> None:
        self.events.append((anyio.current_time(), event))

    def said(self, *what: str) -> list[str]:
        """Numbers of the actors of which it was said, or the word where there is none."""
        return [event.actor.removeprefix(PREFIX) or event.what for _, event in self.events if event.what in what]

    def at(self, what: str) -> list[float]:
        return [when for when, event in self.events if event.what == what]

    def kill(self, number: int) -> None:
        self.pool.kill(f"{PREFIX}{number}")

    @property
    def states(self) -> dict[str, int]:
        report = self.pool.report()["default"]
        return {name: report[name] for name in ("starting", "ready", "busy", "draining", "dead") if report[name]}

    async def rest(self) -> None:
        """Let everything happen that takes no time."""
        await anyio.sleep(0.001)


@asynccontextmanager
async def company(**recipe: Any) -> AsyncIterator[Company]:
    there = Company(**recipe)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(there.pool.serve, there.hear)
        await there.rest()
        yield there
        tasks.cancel_scope.cancel()


async def ended(execution: Execution) -> None:
    await execution.stop(1)
    assert isinstance(await execution.outcome(), Returned)


# --- size -------------------------------------------------------------------------------------------------------------


async def test_the_idle_go_before_the_busy_and_the_least_busy_before_others() -> None:
    async with company(actors=3, concurrency=4) as there:
        seats = [await there.pool.reserve("default", exclusive=False) for _ in range(4)]
        busiest, busy, idle = (seat.actor.removeprefix(PREFIX) for seat in seats[:3])
        assert seats[3].actor == seats[0].actor
        jobs = [seat.start(call("job", job=f"J{number}")) for number, seat in enumerate(seats)]
        await there.rest()
        await ended(jobs[2])
        there.pool.resize("default", 2)
        await there.rest()
        assert there.said("retired") == [idle]
        there.pool.resize("default", 1)
        await there.rest()
        assert there.states == {"busy": 1, "draining": 1}
        assert there.pool.slots("default", exclusive=False).free == 2
        await ended(jobs[1])
        await there.rest()
        assert there.said("retired") == [idle, busy]
        assert (await there.pool.reserve("default", exclusive=False)).actor == f"{PREFIX}{busiest}"
        assert [event.reason for _, event in there.events if event.what == "retired"] == ["scaled_down"] * 2


async def test_a_pool_that_grows_while_one_leaves_never_has_more_than_its_greatest_size() -> None:
    async with company(actors=2) as there:
        first = await begin(there.pool, call("job", job="J1"))
        second = await begin(there.pool, call("job", job="J2"))
        there.pool.resize("default", 1)
        await there.rest()
        assert there.states == {"busy": 1, "draining": 1}
        there.pool.resize("default", 2)
        await anyio.sleep(60)
        assert sorted(there.said("initialized")) == ["1", "2"], "there is room for another only once it has gone"
        for job in (first, second):
            await ended(job)
            await there.rest()
        assert sorted(there.said("initialized")) == ["1", "2", "3"]
        assert there.states == {"ready": 2}


async def test_who_is_still_starting_is_called_off_when_nobody_needs_it_any_more() -> None:
    there = Company(actors=3, min_actors=1)
    starts = anyio.Event()
    spawner = there.pool._actors
    spawn = spawner.spawn

    def slowly(profile: Profile, name: str) -> Any:
        actor = spawn(profile, name)
        ready = actor.ready

        async def wait() -> None:
            if not name.endswith("-1"):
                await starts.wait()
            await ready()

        actor.ready = wait  # type: ignore[method-assign]
        return actor

    spawner.spawn = slowly  # type: ignore[method-assign]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(there.pool.serve, there.hear)
        await there.rest()
        there.pool.resize("default", 3)
        await there.rest()
        assert there.states == {"starting": 2, "ready": 1}
        there.pool.resize("default", 2)
        await there.rest()
        assert there.states == {"starting": 1, "ready": 1}
        starts.set()
        await there.rest()
        assert there.said("initialized") == ["1", "2"]
        assert there.said("failed", "retired") == []
        tasks.cancel_scope.cancel()


async def test_a_place_that_is_no_longer_needed_is_not_filled() -> None:
    async with company(actors=2) as there:
        there.hire = lambda: lost("WorkerCrashedError", "no")
        there.kill(1)
        await there.rest()
        there.pool.resize("default", 1)
        await anyio.sleep(60)
        there.hire = Patient
        there.pool.resize("default", 2)
        await anyio.sleep(60)
        assert there.states == {"ready": 2}
        assert there.said("restarted") == [], "whoever comes later stands in nobody's place"


# --- spares and recycling ---------------------------------------------------------------------------------------------


async def test_a_spare_takes_over_in_no_time_and_a_second_death_waits_for_no_bench() -> None:
    async with company(actors=2, spares=1) as there:
        first, second = there.said("employed")
        (spare,) = {"1", "2", "3"} - {first, second}
        there.kill(int(first))
        there.kill(int(second))
        await anyio.sleep(1)
        *before, fourth = there.said("employed")
        assert before == [first, second, spare]
        assert there.said("restarted") == [spare, fourth]
        assert there.states == {"ready": 3}


async def test_a_spare_that_dies_is_replaced_and_leaves_no_place() -> None:
    async with company(actors=1, spares=1) as there:
        (spare,) = {"1", "2"} - {*there.said("employed")}
        there.kill(int(spare))
        await anyio.sleep(1)
        assert there.said("failed", "restarted") == [spare]
        assert there.states == {"ready": 2}


async def test_a_worn_actor_works_on_until_another_is_ready_where_there_is_room() -> None:
    async with company(actors=2, min_actors=1, recycle_rss=100, beat_s=1.0) as there:
        job = await begin(there.pool, call("job"))
        there.hire = lambda: lost("WorkerCrashedError", "not now")
        there.pool.swell(f"{PREFIX}1", 101)
        await anyio.sleep(5)
        assert there.states == {"busy": 1}, "it goes on, as nobody can stand in"
        there.hire = Patient
        await anyio.sleep(60)
        assert there.states == {"ready": 1, "draining": 1}
        await ended(job)
        await there.rest()
        assert there.said("retired") == ["1"]
        assert there.states == {"ready": 1}


async def test_worn_actors_leave_one_after_the_other_where_there_is_no_room() -> None:
    async with company(actors=2, recycle_rss=100, beat_s=1.0) as there:
        jobs = [await begin(there.pool, call("job", job=f"J{number}")) for number in range(2)]
        for number in (1, 2):
            there.pool.swell(f"{PREFIX}{number}", 101)
        await anyio.sleep(5)
        assert there.states == {"busy": 1, "draining": 1}
        for job in jobs:
            await ended(job)
            await anyio.sleep(5)
        assert sorted(there.said("retired")) == ["1", "2"]
        assert there.states == {"ready": 2}


async def test_a_slot_that_was_taken_and_never_used_still_wears_its_actor_out() -> None:
    async with company(actors=1, recycle_jobs=1) as there:
        (await there.pool.reserve("default", exclusive=False)).release()
        await there.rest()
        assert there.said("retired") == ["1"]
        assert (await there.pool.reserve("default", exclusive=False)).actor == f"{PREFIX}2"


async def test_an_actor_that_dies_while_it_drains_has_failed() -> None:
    async with company(actors=1, recycle_jobs=1) as there:
        job = await begin(there.pool, call("job"))
        await there.rest()
        there.kill(1)
        assert isinstance(await job.outcome(), Gone)
        await anyio.sleep(1)
        assert (there.said("failed"), there.said("retired", "restarted")) == (["1"], [])
        assert there.states == {"ready": 1}


# --- heartbeat --------------------------------------------------------------------------------------------------------


async def test_silence_counts_only_while_nothing_excuses_it() -> None:
    async with company(actors=1, beat_s=2.0, silent_s=10.0) as there:
        alone = await begin(there.pool, call("job", exclusive=True))
        there.pool.silence(f"{PREFIX}1")
        await anyio.sleep(3600)
        assert there.states == {"busy": 1}
        silent_since = anyio.current_time()
        await ended(alone)
        await anyio.sleep(60)
        (died,) = there.at("failed")
        assert died - silent_since == pytest.approx(10, abs=2.1)
        assert [event.reason for _, event in there.events if event.what == "restarted"] == ["ActorSilent"]


async def test_a_spare_that_falls_silent_is_replaced_too() -> None:
    async with company(actors=1, spares=1, beat_s=2.0, silent_s=10.0) as there:
        (spare,) = {"1", "2"} - {*there.said("employed")}
        there.pool.silence(f"{PREFIX}{spare}")
        await anyio.sleep(60)
        assert there.said("failed", "restarted") == [spare]
        assert there.states == {"ready": 2}


# --- the circuit ------------------------------------------------------------------------------------------------------


async def test_an_open_circuit_tries_one_at_a_time_after_ever_longer_pauses_and_one_success_closes_it() -> None:
    tries: list[float] = []

    def fail() -> ErrorInfo:
        tries.append(anyio.current_time())
        return unfit("RuntimeEnvSetupError", "pip: no such package")

    async with company(actors=3) as there:
        there.hire = fail
        for number in (1, 2, 3):
            there.kill(number)
        await anyio.sleep(100)
        # Three at a time until the circuit opens, then one.
        assert [round(when - tries[0], 3) for when in tries[:15:3]] == [0.0, 0.1, 0.3, 0.7, 1.5]
        singles = [round(after - before, 3) for before, after in itertools.pairwise(tries[14:])]
        assert singles[:5] == [1.6, 3.2, 6.4, 12.8, 25.6]
        assert there.pool.report()["default"]["circuit"] == "open"
        assert there.said("halted", "resumed") == ["halted"]
        there.hire = Patient
        await anyio.sleep(60)
        assert there.said("halted", "resumed") == ["halted", "resumed"]
        assert there.states == {"ready": 3}
        assert there.pool.report()["default"]["circuit"] == "closed"


async def test_a_profile_that_still_has_an_actor_is_not_halted() -> None:
    async with company(actors=2) as there:
        there.hire = lambda: unfit("RuntimeEnvSetupError", "no")
        there.kill(1)
        await anyio.sleep(100)
        assert there.pool.report()["default"]["circuit"] == "open"
        assert there.said("halted") == []
        there.kill(2)
        await anyio.sleep(60)
        assert there.said("halted") == ["halted"]
