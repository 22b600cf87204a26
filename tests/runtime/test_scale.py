"""Pools that grow and shrink with their queues, and profiles none of whose actors can start."""

from __future__ import annotations

from typing import Any

import anyio
import msgspec
import pytest

from contracts import subjects
from contracts.errors import ErrorInfo
from contracts.events import Completed, Started
from infra.pool.actor import unfit
from infra.pool.base import Profile
from tests.runtime.kinds import Puppet, Task, short
from tests.runtime.test_pressure import said
from tests.runtime.world import ONE_SLOT, Member, World, names, settings
from workers import job
from workers.runtime import terms
from workers.runtime.depths import LOOK_S
from workers.settings import Gateway

pytestmark = pytest.mark.anyio

QUIET_S = 20.0
ELASTIC = settings(
    profiles={"default": {"actors": 4, "min_actors": 1, "concurrency": 1}},
    scaling={"target": 2, "quiet_s": QUIET_S},
)


PREFETCH = Gateway(prefetch=2)


@job("sync", id_field="id")
def sync(task: Task) -> int:
    """Has an actor to itself."""
    return task.value


def steps(world: World) -> list[tuple[int, int]]:
    """Each `workers.pool.resized`, as before and after."""
    return [(body["before"], body["after"]) for body in said(world, "pool.resized")]


async def test_a_pool_grows_at_once_and_shrinks_one_by_one(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, settings=ELASTIC)
    jobs = [f"j{number}" for number in range(20)]
    for job_id in jobs:
        await jetray.submit("puppet", {"id": job_id})
    await world.settled(lambda: len(puppet.attempts) == 4, within_s=LOOK_S + 1)
    assert puppet.most == 4
    grown = said(world, "pool.resized")
    assert [(body["profile"], body["before"], body["after"]) for body in grown] == [("default", 1, 4)]
    assert grown[0]["depth"] > 6
    for job_id in jobs:
        puppet.say(job_id, "done")
    for job_id in jobs:
        assert isinstance(await jetray.end_of("puppet", job_id), Completed)
        assert names(await jetray.events("puppet", job_id)) == ["started", "completed"]
    ended = anyio.current_time()
    await world.settled(lambda: jetray.pool.report()["default"]["size"] == 1)
    assert anyio.current_time() - ended == pytest.approx(3 * QUIET_S, abs=LOOK_S + 2)
    await anyio.sleep(10 * QUIET_S)
    assert steps(world) == [(1, 4), (4, 3), (3, 2), (2, 1)]
    retired = said(world, "actor.retired")
    assert [body["reason"] for body in retired] == ["scaled_down"] * 3
    assert len(said(world, "actor.initialized")) == 4
    assert said(world, "actor.failed") == []


async def test_no_job_is_disturbed_when_its_actor_is_one_too_many(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, settings=ELASTIC)
    for number in range(8):
        await jetray.submit("puppet", {"id": f"j{number}"})
    await world.settled(lambda: len(puppet.attempts) == 4)
    for number in range(8):
        if f"j{number}" != puppet.attempts[0][0]:
            puppet.say(f"j{number}", "done")
    await anyio.sleep(10 * QUIET_S)
    (first,) = [started async for started in _running(jetray)]
    status = jetray.pool.report()["default"]
    assert (status["size"], status["busy"] + status["draining"]) == (1, 1)
    puppet.say(first, "done")
    assert names(await jetray.events("puppet", first)) in (["started"], ["started", "completed"])
    assert isinstance(await jetray.end_of("puppet", first), Completed)


async def _running(jetray: Member) -> Any:
    for active in jetray.rooms.fleet.status().active:
        yield active.job_id


async def test_pressure_waits_until_a_pool_is_at_its_greatest(world: World) -> None:
    puppet = Puppet()
    terms = msgspec.structs.replace(
        ELASTIC, watermarks=msgspec.convert({"high": 5, "low": 2}, type(ELASTIC.watermarks))
    )
    jetray = await world.gateway(puppet.kind, settings=terms)
    scale = jetray.gateway._scale
    assert not scale.grown("puppet")
    assert scale.grown("plan"), "a batch kind has no pool"
    for number in range(6):
        await jetray.submit("puppet", {"id": f"j{number}"})
    await world.settled(lambda: bool(steps(world)))
    assert steps(world) == [(1, 3)]
    assert not scale.grown("puppet")
    assert said(world) == []
    for number in range(6, 12):
        await jetray.submit("puppet", {"id": f"j{number}"})
    await world.settled(lambda: bool(said(world)))
    assert scale.grown("puppet")
    assert steps(world) == [(1, 3), (3, 4)]
    assert said(world)[0]["reason"] == "depth"
    for number in range(12):
        puppet.say(f"j{number}", "done")
    await world.settled(lambda: len(said(world)) == 2)


async def test_the_status_tells_of_each_actors_state(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, settings=settings(profiles={"default": {"actors": 2, "concurrency": 1}}))
    await jetray.submit("puppet", {"id": "j"})
    await puppet.begun("j")
    assert jetray.rooms.fleet.status().pools == {
        "default": {
            "size": 2,
            "min_actors": 2,
            "actors": 2,
            "spares": 0,
            "circuit": "closed",
            "starting": 0,
            "ready": 1,
            "busy": 1,
            "draining": 0,
            "dead": 0,
        }
    }
    puppet.say("j", "done")


# --- the circuit ------------------------------------------------------------------------------------------------------


def broken() -> ErrorInfo:
    return unfit("RuntimeEnvSetupError", "pip: no such package")


def break_down(jetray: Member) -> Any:
    """Break what builds a gateway's actors, and return what repairs it."""
    spawner = jetray.pool._actors
    whole, spawner._host = spawner._host, broken  # type: ignore[assignment]

    def undo() -> None:
        spawner._host = whole

    return undo


async def test_kinds_whose_actors_cannot_start_are_left_to_others(world: World) -> None:
    puppet = Puppet()
    other = Puppet("other")
    jetray = await world.gateway(puppet.kind, other.kind, sync, settings=ONE_SLOT)
    undo = break_down(jetray)
    await jetray.submit("puppet", {"id": "a"})
    await puppet.begun("a")
    await jetray.submit("sync", {"id": "b"})
    await jetray.submit("other", {"id": "c"})
    await world.settled(lambda: len(jetray.rooms.live) == 3)
    jetray.pool.kill("jetray-memory-default-1")
    await world.settled(lambda: bool(said(world)))
    runs = sorted(kind.name for kind in jetray.kinds.values() if not kind.is_batch)
    assert sorted((body["event"], body["kind"], body["reason"]) for body in said(world)) == [
        ("backpressure.applied", kind, "circuit_open") for kind in runs
    ]
    assert jetray.rooms.fleet.status().pools["default"]["circuit"] == "open"
    # What waited for a slot here is given back, and nothing is asked for.
    await anyio.sleep(120)
    assert len(jetray.rooms.live) == 0
    assert names(await jetray.events("sync", "b")) == []
    # Another gateway has them all.
    puppet.say("a", "done")
    other.say("c", "done")
    await world.gateway(settings=ONE_SLOT)
    assert isinstance(await jetray.end_of("puppet", "a"), Completed)
    assert isinstance(await jetray.end_of("other", "c"), Completed)
    assert isinstance(await jetray.end_of("sync", "b"), Completed)
    (started,) = [event for event in await jetray.events("sync", "b") if isinstance(event, Started)]
    assert started.gateway == "gw-2"
    undo()
    await world.settled(lambda: len(said(world)) == 2 * len(runs))
    assert {body["event"] for body in said(world)[len(runs) :]} == {"backpressure.released"}
    assert jetray.rooms.fleet.status().pools["default"]["circuit"] == "closed"


async def test_short_jobs_that_wait_for_a_slot_are_given_back_too(world: World) -> None:
    jetray = await world.gateway(short, settings=msgspec.structs.replace(ONE_SLOT, gateway=PREFETCH))
    undo = break_down(jetray)
    ids = [f"s{number}" for number in range(4)]
    for job_id in ids:
        await jetray.submit("short", {"id": job_id, "value": 60})
    await world.settled(lambda: len(jetray.rooms.live) > 1)
    jetray.pool.kill("jetray-memory-default-1")
    await world.settled(lambda: bool(said(world)))
    await anyio.sleep(1)
    assert len(jetray.rooms.live) == 0
    undo()
    for job_id in ids:
        assert isinstance(await jetray.end_of("short", job_id), Completed)


async def test_where_each_job_gets_a_fresh_actor_short_ones_do_not_travel_together(world: World) -> None:
    fresh = settings(profiles={"default": {"actors": 2, "concurrency": 4, "recycle_jobs": 1}})
    jetray = await world.gateway(short, settings=fresh)
    ids = [f"s{number}" for number in range(30)]
    for job_id in ids:
        await jetray.submit("short", {"id": job_id})
    actors = []
    for job_id in ids:
        assert isinstance(await jetray.end_of("short", job_id), Completed)
        actors += [event.actor for event in await jetray.events("short", job_id) if isinstance(event, Started)]
    assert len(set(actors)) == len(actors) == len(ids)
    await world.settled(lambda: len(said(world, "actor.retired")) == len(ids))
    assert {(body["reason"], body["executions"]) for body in said(world, "actor.retired")} == {("recycled", 1)}


async def test_a_profile_whose_circuit_opens_leaves_the_others_alone(world: World) -> None:
    puppet, other = Puppet(), Puppet("other")
    two = settings(
        profiles={"default": {"actors": 1, "concurrency": 1}, "models": {"actors": 1, "concurrency": 1}},
        kinds={"settings": {"other": {"profile": "models"}}},
    )
    jetray = await world.gateway(puppet.kind, other.kind, settings=two)
    undo = break_down(jetray)
    jetray.pool.kill("jetray-memory-models-1")
    await world.settled(lambda: bool(said(world)))
    assert [body["kind"] for body in said(world)] == ["other"]
    await jetray.submit("other", {"id": "later"})
    puppet.say("now", "done")
    await jetray.submit("puppet", {"id": "now"})
    assert isinstance(await jetray.end_of("puppet", "now", within_s=30), Completed)
    assert (await world.state("other", stream=subjects.JOBS)).waiting == 1
    undo()
    other.say("later", "done")
    assert isinstance(await jetray.end_of("other", "later", within_s=60), Completed)


async def test_a_profile_has_all_that_settings_say_of_it() -> None:
    recipe: dict[str, Any] = {
        "actors": 3, "min_actors": 2, "spares": 1, "recycle_jobs": 9, "recycle_rss": 10, "silent_s": 5.0, "cpus": 0.5,
        "gpus": 1.0, "memory": 7, "concurrency": 2, "runtime_env": {"pip": ["x"]},
    }  # fmt: skip
    assert terms.profiles(settings(profiles={"p": recipe})) == [Profile(name="p", **recipe)]
