"""Jobs that somebody cancels: running, waiting, queued, or too late."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from contracts import subjects
from contracts.events import Asked, Cancelled, Completed, Failed
from tests.runtime.kinds import ENDLESS, Group, Puppet, grouping
from tests.runtime.world import Hooks, World, names
from workers import Retry
from workers.core.log import LogView
from workers.kinds.registry import Kind
from workers.runtime.cancel import Canceller, Subject
from workers.runtime.journal import Journal

pytestmark = pytest.mark.anyio


def _elsewhere(world: World, who: str = "elsewhere") -> Journal:
    return Journal(world.client, nonce=who, source=who)


async def _cancel(world: World, kind: str, job_id: str) -> Any:
    canceller = Canceller(_elsewhere(world), gateway="elsewhere", now=world.client.server_now)
    subject = Subject(kind=kind, job_id=job_id, batch=kind == "group", origin="CONTROL:1")
    return (await canceller.cancel(subject, Asked(reason="no longer wanted", requested_by="the test"))).tail


@pytest.mark.parametrize("kind", ENDLESS, ids=lambda kind: str(kind.name))
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


@pytest.mark.parametrize("kind", ENDLESS, ids=lambda kind: str(kind.name))
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


@pytest.mark.parametrize("kind", ENDLESS, ids=lambda kind: str(kind.name))
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


async def test_an_operators_cancel_however_wordy_ends_the_job(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind)
    await jetray.submit("puppet", {"id": "a"})
    await puppet.begun("a")
    await jetray.publish("control.cancel.puppet.a", {"reason": "x" * 1_048_400, "requested_by": "somebody"})
    end = await jetray.end_of("puppet", "a")
    assert isinstance(end, Cancelled)
    assert (end.requested_by, len(end.reason.encode())) == ("somebody", 2048)
    told = [message.subject for message in world.kept(subjects.WORKERS, "workers.control.>")]
    assert told == ["workers.control.done.gw-1"]


async def test_what_comes_into_the_log_meanwhile_may_not_be_what_was_meant(world: World) -> None:
    await world.gateway()
    seen: list[int] = []

    async def meant(view: LogView) -> None:
        seen.append(view.sequence)
        if len(seen) > 1:
            raise PermissionError
        # It comes first: ours is refused, and is not to be tried again as if nothing had happened.
        await _cancel(world, "short", "a")

    canceller = Canceller(_elsewhere(world, "operator"), gateway="operator", now=world.client.server_now)
    subject = Subject(kind="short", job_id="a", batch=False, origin="CONTROL:2")
    with pytest.raises(PermissionError):
        await canceller.cancel(subject, Asked(reason="late", requested_by="operator"), meant)
    assert len(seen) == 2
