"""What a job started is gone with it, whatever it did to get away: for the pools whose actors are processes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

import anyio
import pytest
from msgspec.structs import replace

from contracts.calls import Call, Outcome, Raised, Returned
from infra.bus.memory import MemoryBus, MemoryServer
from infra.pool import birthmark
from infra.pool.base import Pool
from infra.store.memory import MemoryStore
from tests.conformance.pool import nasty
from tests.conformance.pool.worlds import World, begin, call, finish
from workers.core import job as core
from workers.runtime.attempt import Attempt

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere descendants are not found"),
    pytest.mark.parametrize(
        "setting", ["process", pytest.param("ray", marks=pytest.mark.ray)], ids=["process", "ray"], indirect=True
    ),
]

ENDLESS = ["child-spins", "session-sleeps", "stripped-hangs", "strippeddaemon-deaf", "tree-stops", "daemon-async"]
"""Jobs that never end by themselves, nor when they are asked."""


@pytest.mark.parametrize("kind", ENDLESS)
async def test_past_its_deadline_a_job_is_dead_with_all_that_it_started(
    world: World, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with world.pool(factory=nasty.FACTORY) as pool:
        heard: list[core.Stimulus] = []
        attempt = Attempt(MemoryBus(MemoryServer()), MemoryStore(), heard.append, lambda: 30.0)
        reservation = await pool.reserve("default", exclusive=True)
        began = time.monotonic()
        overdue = replace(nasty_call(kind, tmp_path), timeout_s=1.0)
        await attempt.run(reservation, overdue)
        took = time.monotonic() - began - overdue.timeout_s
        assert running(tmp_path) == []
        (end,) = heard
        assert isinstance(end, core.Raised)
        assert end.error.reason == "deadline"
        assert isinstance(await finish(pool, nasty_call("alone-returns", tmp_path)), Returned)
        assert pool.slots("default", exclusive=True).free == 1
    with capsys.disabled():
        print(f" [{took:.2f} s after its deadline]", end="")


@pytest.mark.parametrize("kind", ["session-hangs", "strippeddaemon-stops"])
async def test_a_job_that_is_cancelled_and_does_not_heed_takes_everything_along(
    world: World, tmp_path: Path, kind: str
) -> None:
    async with world.pool(factory=nasty.FACTORY) as pool:
        execution = await begin(pool, nasty_call(kind, tmp_path))
        pids = await written(tmp_path)
        await execution.stop(0.3)
        assert len(pids) == 2
        assert running(tmp_path) == []
        assert isinstance(await finish(pool, nasty_call("alone-returns", tmp_path)), Returned)


@pytest.mark.parametrize("kind", ["session-dies", "daemon-killed", "stripped-killed", "strippeddaemon-dies"])
async def test_an_actor_that_dies_takes_everything_along(world: World, tmp_path: Path, kind: str) -> None:
    async with world.pool(factory=nasty.FACTORY) as pool:
        await finish(pool, nasty_call(kind, tmp_path))
        assert len(await written(tmp_path)) == 2
        assert running(tmp_path) == []
        assert isinstance(await finish(pool, nasty_call("alone-returns", tmp_path)), Returned)


@pytest.mark.parametrize("kind", ["child-returns", "stripped-returns", "strippeddaemon-returns", "tree-returns"])
async def test_what_a_finished_job_left_behind_is_gone_before_its_outcome_is_known(
    world: World, tmp_path: Path, kind: str
) -> None:
    async with world.pool(factory=nasty.FACTORY) as pool:
        assert isinstance(await finish(pool, nasty_call(kind, tmp_path)), Returned)
        actor, *left = await written(tmp_path)
        assert left
        assert running(tmp_path) == [actor]
        assert not world.of("failed")


async def test_what_a_kind_keeps_for_its_jobs_stays(world: World, tmp_path: Path) -> None:
    async with world.pool(factory=nasty.FACTORY) as pool:
        assert isinstance(await finish(pool, nasty_call("kept-returns", tmp_path)), Returned)
        actor, kept, _ = await written(tmp_path)
        assert running(tmp_path) == [actor, kept]
        assert isinstance(await finish(pool, nasty_call("kept-returns", tmp_path)), Returned)
        assert running(tmp_path) == [actor, kept]
        assert (await written(tmp_path))[:2] == [actor, kept]
    assert running(tmp_path) == []


async def test_jobs_that_share_an_actor_keep_what_they_started_as_long_as_it_lives(
    world: World, tmp_path: Path
) -> None:
    async with world.pool(factory=nasty.FACTORY) as pool:
        shared = replace(nasty_call("session-returns", tmp_path), exclusive=False)
        assert isinstance(await finish(pool, shared), Returned)
        assert running(tmp_path) == await written(tmp_path)
    assert running(tmp_path) == []


async def test_no_other_actor_loses_anything(world: World, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    make = cast(Callable[..., Pool], world.make)
    bystander = World(partial(make, gateway="gw-2"), world.one_at_a_time)
    async with world.pool(factory=nasty.FACTORY) as pool, bystander.pool(factory=nasty.FACTORY) as others:
        quiet = await begin(others, nasty_call("strippeddaemon-sleeps", other))
        theirs = await written(other)
        await outcome_of(pool, nasty_call("strippeddaemon-dies", tmp_path))
        await outcome_of(pool, nasty_call("session-returns", tmp_path))
        assert running(other) == theirs
        await quiet.stop(0)
        assert running(other) == []


async def outcome_of(pool: Pool, called: Call) -> Outcome:
    outcome = await finish(pool, called)
    assert not isinstance(outcome, Raised)
    return outcome


def nasty_call(kind: str, directory: Path) -> Call:
    return call(kind, str(directory / "pids").encode(), exclusive=True)


async def written(directory: Path) -> list[int]:
    """The job's processes, once it has named them all."""
    while not (file := directory / "pids").exists() or not file.read_text().endswith("\n\n"):  # noqa: ASYNC110
        await anyio.sleep(0.01)  # it may be about to hang with Python's lock, and can tell in no other way
    return [int(line) for line in file.read_text().split()]


def running(directory: Path) -> list[int]:
    """Those of the job's processes of which anything still runs."""
    pids = [int(line) for line in (directory / "pids").read_text().split()]
    return [pid for pid in pids if birthmark.is_alive(pid)]
