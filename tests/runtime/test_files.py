"""What becomes of a job's files stands in its log, before its end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from contracts.events import Event, FilesTracked, FilesTrackingFailed, TrackedFile
from tests.runtime.kinds import Puppet, Task, acting
from tests.runtime.world import ONE_SLOT, Hooks, World, names, settings
from workers import JobContext, job
from workers.settings import Settings

pytestmark = pytest.mark.anyio


@pytest.fixture
def here(tmp_path: Path) -> Settings:
    """Settings with workspaces of the test's own."""
    return settings(workspaces={"base": str(tmp_path)})


def one_file(ctx: JobContext, data: str) -> None:
    (ctx.workspace / "output" / "file").write_text(data)
    ctx.track()


async def writes(ctx: JobContext, task: Task) -> int:
    """Tracks one file, which holds the number of the attempt."""
    one_file(ctx, str(ctx.attempt))
    return task.value


def below(folder: Path) -> list[Path]:
    return [*folder.rglob("*")]


def tracked(log: Sequence[Event]) -> list[FilesTracked]:
    return [event for event in log if isinstance(event, FilesTracked)]


async def test_files_are_told_before_the_end(world: World, here: Settings, tmp_path: Path) -> None:
    @job("sync", id_field="id")
    def sync(ctx: JobContext, task: Task) -> int:
        one_file(ctx, "sync")
        return 1

    jetray = await world.gateway(acting("writer", writes), sync, settings=here)
    for kind, data in (("writer", b"1"), ("sync", b"sync")):
        await jetray.submit(kind, {"id": "a"})
        await jetray.end_of(kind, "a")
        log = await jetray.events(kind, "a")
        assert names(log) == ["started", "files_tracked", "completed"]
        (event,) = tracked(log)
        assert isinstance(event.files, list)
        (file,) = event.files
        assert (file.name, file.bytes) == ("file", len(data))
        assert await jetray.store.get(f"memory://files/sha256/{file.sha256}") == data
        manifest = await jetray.store.get(f"memory://files/commits/{event.commit}.json")
        assert msgspec.json.decode(manifest, type=list[TrackedFile]) == event.files
    assert [path.name for path in below(tmp_path) if path.name != "owner.lock" and path.is_file()] == []


async def test_an_input_comes_from_the_store(world: World, here: Settings) -> None:
    async def reads(ctx: JobContext, task: Task) -> str:
        return (ctx.stage({"data/a.csv": "memory://a.csv"}) / "data" / "a.csv").read_text()

    jetray = await world.gateway(acting("reader", reads), settings=here)
    await jetray.store.put("a.csv", b"one")
    await jetray.submit("reader", {"id": "a"})
    assert await jetray.result_of("reader", "a") == "one"


async def test_a_failure_to_track_is_told_and_is_not_the_jobs(world: World, here: Settings) -> None:
    async def links(ctx: JobContext, task: Task) -> bool:
        (ctx.workspace / "output" / "link").symlink_to("/etc/passwd")
        return ctx.track() is None

    jetray = await world.gateway(acting("linker", links), settings=here)
    await jetray.submit("linker", {"id": "a"})
    assert await jetray.result_of("linker", "a") is True
    log = await jetray.events("linker", "a")
    assert names(log) == ["started", "files_tracking_failed", "completed"]
    failed = log[1]
    assert isinstance(failed, FilesTrackingFailed)
    assert (failed.files, failed.error.message) == (["link"], "link is a link")


async def test_none_of_many_is_left_out_however_fast_they_come(world: World, here: Settings) -> None:
    async def hurries(ctx: JobContext, task: Task) -> int:
        for number in range(30):
            ctx.progress(done=number)
            one_file(ctx, str(number))
        return 1

    jetray = await world.gateway(acting("hurrier", hurries), settings=here)
    await jetray.submit("hurrier", {"id": "a"})
    await jetray.end_of("hurrier", "a")
    log = await jetray.events("hurrier", "a")
    assert len({event.commit for event in tracked(log)}) == 30
    assert names(log).count("progress") <= 3, "progress is told seldom all the same"
    assert names(log)[-1] == "completed"


async def test_what_is_tracked_at_last_is_told_though_the_bus_takes_no_words(world: World, here: Settings) -> None:
    async def speaks(ctx: JobContext, task: Task) -> int:
        ctx.emit("response.completed", {"n": 1})
        return await writes(ctx, task)

    hooks = Hooks()
    jetray = await world.gateway(acting("speaker", speaks), hooks=hooks, settings=here)
    hooks.lose_requests("publish", "agent.", times=10**6)
    await jetray.submit("speaker", {"id": "a"})
    await jetray.end_of("speaker", "a", within_s=30)
    assert names(await jetray.events("speaker", "a")) == ["started", "files_tracked", "completed"]


@pytest.mark.parametrize("ways", ["answers", "requests"])
async def test_it_is_said_once_whatever_is_lost_on_the_way(world: World, here: Settings, ways: str) -> None:
    hooks = Hooks()
    jetray = await world.gateway(acting("writer", writes), hooks=hooks, settings=here)
    getattr(hooks, f"lose_{ways}")("publish", "orchestration.writer.files_tracked", times=3)
    await jetray.submit("writer", {"id": "a"})
    await jetray.end_of("writer", "a")
    assert names(await jetray.events("writer", "a")) == ["started", "files_tracked", "completed"]


async def test_each_attempt_tells_of_its_own_files(world: World, here: Settings) -> None:
    async def stumbles(ctx: JobContext, task: Task) -> int:
        await writes(ctx, task)
        if ctx.attempt == 1:
            raise ValueError(f"cannot read {ctx.workspace}/output/file")
        return 1

    jetray = await world.gateway(acting("stumbler", stumbles), settings=here)
    await jetray.submit("stumbler", {"id": "a"})
    await jetray.end_of("stumbler", "a")
    log: list[Any] = list(await jetray.events("stumbler", "a"))
    assert names(log) == ["started", "files_tracked", "retrying", "started", "files_tracked", "completed"]
    assert [event.attempt for event in tracked(log)] == [1, 2]
    assert len({event.commit for event in tracked(log)}) == 2
    assert log[2].error.message == "cannot read <workspace>/output/file"


async def test_after_a_takeover_the_old_attempt_tells_nothing_more(world: World, tmp_path: Path) -> None:
    puppet = Puppet()
    here = msgspec.structs.replace(ONE_SLOT, workspaces=settings(workspaces={"base": str(tmp_path)}).workspaces)
    late = anyio.Event()

    async def tracks_late(ctx: JobContext) -> int:
        one_file(ctx, f"{ctx.attempt} early")
        if ctx.attempt == 1:
            with anyio.CancelScope(shield=True):
                await late.wait()
        one_file(ctx, f"{ctx.attempt} late")
        return 1

    puppet.say("a", tracks_late)
    first = await world.gateway(puppet.kind, settings=here)
    await first.submit("puppet", {"id": "a"})
    await puppet.begun("a")
    await world.settled(lambda: len(world.kept("EVENTS", "orchestration.puppet.files_tracked.a")) == 1)
    second = await world.gateway()
    first.bus.disconnect()
    await puppet.begun("a", 2)
    late.set()
    await second.end_of("puppet", "a")
    log = await second.events("puppet", "a")
    assert names(log) == ["started", "files_tracked", "started", "files_tracked", "files_tracked", "completed"]
    assert [event.attempt for event in tracked(log)] == [1, 2, 2]
    first.bus.reconnect()


async def test_nothing_is_said_of_files_by_who_tracks_none(world: World, here: Settings, tmp_path: Path) -> None:
    async def silent(ctx: JobContext, task: Task) -> int:
        return 1

    jetray = await world.gateway(acting("silent", silent), settings=here)
    await jetray.submit("silent", {"id": "a"})
    await jetray.end_of("silent", "a")
    assert names(await jetray.events("silent", "a")) == ["started", "completed"]
    assert below(tmp_path) == []
