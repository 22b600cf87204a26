"""Batches that run out of time, and batches that another gateway takes over."""

from __future__ import annotations

import anyio
import msgspec
import pytest

from contracts import subjects
from contracts.events import Cancelled, Failed, Spent, Started
from tests.runtime.kinds import Group, Puppet, grouping
from tests.runtime.world import APPROVED, ONE_SLOT, Hooks, World, names, plan, settings
from workers import Fail
from workers.core.opening import CLOSINGS
from workers.kinds.deliberation.config import OfflineSettings, Providers

pytestmark = pytest.mark.anyio


async def test_at_its_deadline_a_batch_ends_every_child_first(world: World) -> None:
    puppet = Puppet()
    terms = settings(gateway={"batch_deadline_s": 100}, profiles={"default": {"actors": 1, "concurrency": 1}})
    jetray = await world.gateway(puppet.kind, grouping(), settings=terms)
    puppet.say("g-done", 1)
    await jetray.submit("group", Group(id="g", members=["done", "running", "queued"]))
    await puppet.begun("g-running")
    end = await jetray.end_of("group", "g")
    assert isinstance(end, Failed)
    assert end.error.reason == "deadline"
    log = await jetray.events("group", "g")
    assert (end.time - log[0].time).total_seconds() == pytest.approx(100, abs=2)
    assert names(await jetray.events("puppet", "g-done")) == ["started", "completed"]
    running, queued = [await jetray.events("puppet", f"g-{name}") for name in ("running", "queued")]
    assert names(running) == ["started", "cancelled"]
    assert names(queued) == ["cancelled"]
    for log in (running, queued):
        assert isinstance(log[-1], Cancelled)
        assert (log[-1].requested_by, log[-1].parent, log[-1].time <= end.time) == ("group.g", "group.g", True)
    assert puppet.attempts == [("g-done", 1), ("g-running", 1)]
    assert [letter.reason for letter in jetray.dead_letters()] == ["deadline"]
    await anyio.sleep(60)
    assert world.kept(subjects.JOBS) == []


async def test_a_batch_taken_over_comes_to_the_same_tally(world: World) -> None:
    puppet = Puppet()
    first = await world.gateway(puppet.kind, grouping())
    puppet.say("g-done", 1)
    puppet.say("g-failed", Fail("no"))
    await first.submit("group", Group(id="g", members=["done", "failed", "unended"]))
    await puppet.begun("g-unended")
    await first.end_of("puppet", "g-done")
    await first.end_of("puppet", "g-failed")
    await anyio.sleep(1)
    await first.crash()
    second = await world.gateway()
    await puppet.begun("g-unended", 2)
    puppet.say("g-unended", 3)
    assert await second.result_of("group", "g") == [
        ["g-done", "completed", 1],
        ["g-failed", "failed", "user"],
        ["g-unended", "completed", 3],
    ]
    assert puppet.attempts == [("g-done", 1), ("g-failed", 1), ("g-unended", 1), ("g-unended", 2)]
    starts = [event for event in await second.events("group", "g") if isinstance(event, Started)]
    assert [(start.attempt, start.gateway) for start in starts] == [(1, "gw-1"), (2, "gw-2")]


async def test_a_plan_taken_over_runs_no_council_again_that_has_ended(world: World) -> None:
    terms = msgspec.structs.replace(ONE_SLOT, providers=Providers(offline=OfflineSettings(think_s=10)))
    first = await world.gateway(settings=terms)
    await first.publish(APPROVED, plan("P1", "DEV", "QA"))
    await first.end_of("deliberation", "P1-DEV")
    await anyio.sleep(5)
    await first.crash()
    second = await world.gateway()
    result = await second.result_of("plan", "P1")
    assert [council.outcome for council in result.councils] == ["completed", "completed"]
    assert names(await second.events("deliberation", "P1-DEV")).count("started") == 1
    assert names(await second.events("deliberation", "P1-QA")).count("started") == 2
    assert names(await second.events("plan", "P1")).count("started") == 2


async def test_a_batch_that_is_taken_over_again_and_again_without_moving_ends_and_its_children_with_it(
    world: World,
) -> None:
    puppet = Puppet()
    gateway = await world.gateway(puppet.kind, grouping(), settings=settings(retry={"max_lost": 2}))
    await gateway.submit("group", Group(id="g", members=["a"]))
    for attempt in (1, 2, 3):
        await puppet.begun("g-a", attempt)
        await gateway.crash()
        gateway = await world.gateway()
    end = await gateway.end_of("group", "g")
    assert isinstance(end, Failed)
    assert end.error.reason == "lost"
    starts = [event for event in await gateway.events("group", "g") if isinstance(event, Started)]
    assert [start.spent for start in starts[:3]] == [Spent(lost=0), Spent(lost=1), Spent(lost=2)]
    [*_, child] = await gateway.events("puppet", "g-a")
    assert isinstance(child, (Cancelled, Failed))
    assert child.time <= end.time, "its child ended before it"
    assert [letter.reason for letter in gateway.dead_letters() if letter.kind == "group"] == ["lost"]


async def test_lost_while_it_ends_its_children_a_batch_goes_on_to_end_them_however_often(world: World) -> None:
    puppet = Puppet()
    group = grouping(max_lost=0)
    gateway = await world.gateway(puppet.kind, group, settings=settings(retry={"max_lost": 100}))
    await gateway.submit("group", Group(id="g", members=["a", "b"]))
    await puppet.begun("g-a")
    await gateway.crash()
    times = CLOSINGS + 3
    for _ in range(times):
        hooks = _StoppedAtProgress()
        gateway = await world.gateway(hooks=hooks)
        with anyio.fail_after(600):
            await hooks.reported.wait()
        await gateway.crash()
    gateway = await world.gateway()
    end = await gateway.end_of("group", "g")
    assert isinstance(end, Failed)
    assert end.error.reason == "lost"
    log = await gateway.events("group", "g")
    starts = [event for event in log if isinstance(event, Started)]
    assert [start.spent.lost for start in starts] == [0] + [1] * (times + 1)
    for child in ("g-a", "g-b"):
        [*_, last] = await gateway.events("puppet", child)
        assert isinstance(last, Cancelled)
        assert last.time <= end.time, "its child ended before it"


class _StoppedAtProgress(Hooks):
    """A gateway that comes no further than to its batch's first report."""

    def __init__(self) -> None:
        super().__init__()
        self.reported = anyio.Event()
        self.on_before = self._stop
        self.on_after = self._note

    async def _stop(self, op: str, subject: str) -> None:
        if self.reported.is_set() or (op, subject.split(".")[2:3]) == ("publish", ["cancelled"]):
            await anyio.sleep_forever()

    async def _note(self, op: str, subject: str) -> None:
        if (op, subject) == ("publish", "orchestration.group.progress.g"):
            self.reported.set()
