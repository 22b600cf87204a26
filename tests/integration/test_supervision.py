"""Pools on a real Ray: they follow their queues, and outlive jobs that kill what runs them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contracts import headers as h
from contracts import subjects
from contracts.events import Completed, Failed, event_name
from infra.bus.base import Stored
from tests.checker import logs, violations
from tests.integration.stack import Stack, stack

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.server,
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.proof,
    pytest.mark.timeout(300),
]

KINDS = '''
import os
import signal
import time

import msgspec

from workers import job


class Task(msgspec.Struct):
    id: str
    kills: bool = False


@job("nap", id_field="id")
def nap(task: Task) -> int:
    """Sync: it has an actor to itself for a while, and may end it."""
    time.sleep(float(os.environ["NAP_S"]))
    if task.kills:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()
'''

SETTINGS = """
routes = []
[kinds]
modules = ["some_kinds"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "some_kinds.py").write_text(KINDS)
    return tmp_path


async def told(jetray: Stack, event: str) -> AsyncIterator[dict[str, Any]]:
    """The bodies of a `workers.*` event, as they come."""
    topic, name = event.split(".")
    async with aclosing(jetray.bus.follow(subjects.WORKERS, f"workers.{topic}.{name}.*")) as messages:
        async for message in messages:
            yield msgspec.json.decode(message.body)


async def said(jetray: Stack, event: str) -> list[dict[str, Any]]:
    """Those said so far. One that is said now comes last, and ends this."""
    topic, name = event.split(".")
    mark = await jetray.bus.publish(f"workers.{topic}.{name}.mark", b"{}")
    found: list[dict[str, Any]] = []
    async with aclosing(jetray.bus.follow(subjects.WORKERS, f"workers.{topic}.{name}.*")) as messages:
        async for message in messages:
            if message.sequence == mark.sequence:
                break
            found.append(msgspec.json.decode(message.body))
    return found


async def first(events: AsyncIterator[dict[str, Any]], **fields: Any) -> None:
    """Return once there is one with these fields."""
    async with asyncio.timeout(120):
        async with aclosing(events) as bodies:  # type: ignore[type-var]
            async for body in bodies:
                if fields.items() <= body.items():
                    return


async def publish(jetray: Stack, ids: Sequence[str], *, kills: Sequence[str] = ()) -> None:
    for job_id in ids:
        await jetray.publish("jobs.nap", msgspec.json.encode({"id": job_id, "kills": job_id in kills}))


async def test_a_pool_follows_its_queue_up_and_down_and_disturbs_no_job(folder: Path) -> None:
    recipe = "[profiles.default]\nactors = 4\nmin_actors = 1\ncpus = 0\n[scaling]\ntarget = 4\nquiet_s = 1\n"
    (folder / "jetray.toml").write_text(SETTINGS + recipe)
    async with stack(folder) as jetray:
        await jetray.gateway(ray="local", log=folder / "log", NAP_S="0.3")
        await first(told(jetray, "pool.created"))
        ids = [f"j{number}" for number in range(60)]
        await publish(jetray, ids)
        for job_id in ids:
            assert isinstance(await jetray.end("nap", job_id), Completed)
        await first(told(jetray, "pool.resized"), after=1)
        steps = [(body["before"], body["after"]) for body in await said(jetray, "pool.resized")]
        # Each step begins where the last one ended: up in as many as the queue grew by, down one by one.
        assert [before for before, _ in steps] == [1, *(after for _, after in steps[:-1])]
        tops = [after for _, after in steps]
        assert (max(tops), tops[-1]) == (4, 1)
        assert all(after == before - 1 for before, after in steps if after < before)
        started = 1 + sum(max(0, after - before) for before, after in steps)
        retired = await said(jetray, "actor.retired")
        assert {body["reason"] for body in retired} <= {"scaled_down"}
        assert len(retired) <= started - 1
        assert await said(jetray, "actor.failed") == []
        found = await logs(jetray.bus)
        for job_id in ids:
            assert [event_name(event) for event in found["nap", job_id]] == ["started", "completed"]
            assert found["nap", job_id][-1].attempt == 1
        assert violations(found) == []
        pids = {bytes(event.result) for log in found.values() for event in log if isinstance(event, Completed)}
        assert len(pids) >= 4, "all four had a share"


async def test_jobs_that_kill_their_actors_cost_the_others_less_than_two_thirds(
    folder: Path, record_property: Any
) -> None:
    recipe = "[profiles.default]\nactors = 8\nspares = 2\ncpus = 0\n[retry]\nmax_lost = 1\nbase_s = 0.1\n"
    (folder / "jetray.toml").write_text(SETTINGS + recipe)
    async with stack(folder) as jetray:
        await jetray.gateway(ray="local", log=folder / "log", NAP_S="1")
        await first(told(jetray, "pool.created"))
        alone = [f"a{number}" for number in range(48)]
        normal = await _rate(jetray, alone)
        mixed = [f"m{number}" for number in range(80)]
        guilty = mixed[::10]
        innocent = [job_id for job_id in mixed if job_id not in guilty]
        struck = await _rate(jetray, mixed, kills=guilty)
        record_property("share", struck / normal)
        print(f"{normal:.2f}/s alone, {struck:.2f}/s beside killers: {struck / normal:.2f}")
        assert struck > normal / 3
        for job_id in guilty:
            end = await jetray.end("nap", job_id)
            assert isinstance(end, Failed)
            assert end.error.reason == "lost"
        found = await logs(jetray.bus)
        assert violations(found) == []
        for job_id in innocent:
            assert [event_name(event) for event in found["nap", job_id]] == ["started", "completed"]
        letters = [letter async for letter in _letters(jetray, len(guilty))]
        assert {letter.headers[h.REASON] for letter in letters} == {"lost"}
        assert sorted(letter.headers[h.JOB_ID] for letter in letters) == sorted(guilty)
        failed = await said(jetray, "actor.failed")
        assert len(failed) == 2 * len(guilty)
        assert {job for body in failed for job in body["jobs"]} == {f"nap.{job_id}" for job_id in guilty}


async def _rate(jetray: Stack, ids: Sequence[str], *, kills: Sequence[str] = ()) -> float:
    """Jobs that completed per second, from the first publish to the last end of those that do no harm."""
    began = time.monotonic()
    await publish(jetray, ids, kills=kills)
    good = [job_id for job_id in ids if job_id not in kills]
    for job_id in good:
        assert isinstance(await jetray.end("nap", job_id), Completed)
    return len(good) / (time.monotonic() - began)


async def _letters(jetray: Stack, count: int) -> AsyncIterator[Stored]:
    async with aclosing(jetray.bus.follow(subjects.DLQ, ">")) as messages:
        async for message in messages:
            yield message
            count -= 1
            if not count:
                return
