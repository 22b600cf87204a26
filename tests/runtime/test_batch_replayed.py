"""Batches that run again: what failed is requeued once, what completed is not run again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import msgspec
import pytest

from contracts import subjects
from contracts.events import Cancelled, Failed, Requeued
from tests.runtime.kinds import Group, Puppet, grouping, outcomes
from tests.runtime.world import ONE_SLOT, Hooks, Member, World, names, settings
from workers import ChildEnd, Fail

pytestmark = pytest.mark.anyio


def _unless_all(group: Group, ends: Sequence[ChildEnd]) -> Any:
    return outcomes(group, ends) if all(end.outcome == "completed" for end in ends) else Fail("not all")


async def failed(jetray: Member) -> int:
    """The dead letter of the batch."""
    end = await jetray.end_of("group", "g")
    assert isinstance(end, Failed)
    return end.dlq_sequence


async def test_what_failed_runs_again_and_what_completed_does_not(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, grouping(reduce=_unless_all))
    puppet.say("g-done", 1)
    puppet.say("g-failed", Fail("no"))
    await jetray.submit("group", Group(id="g", members=["done", "failed"]))
    letter = await failed(jetray)
    puppet.say("g-failed", 2)
    await jetray.publish(f"control.replay.{letter}", b"")
    assert await jetray.result_of("group", "g", run=2) == [["g-done", "completed", 1], ["g-failed", "completed", 2]]
    assert sorted(puppet.attempts) == [("g-done", 1), ("g-failed", 1), ("g-failed", 1)]
    assert names(await jetray.events("puppet", "g-done")) == ["started", "completed"]
    log = await jetray.events("puppet", "g-failed")
    assert names(log) == ["started", "failed", "requeued", "started", "completed"]
    assert [event.run for event in log] == [1, 1, 2, 2, 2]
    assert isinstance(log[1], Failed)
    assert isinstance(log[2], Requeued)
    assert (log[2].dlq_sequence, log[2].parent) == (log[1].dlq_sequence, "group.g")
    assert names(await jetray.events("group", "g"))[-1] == "completed"


async def test_children_that_a_deadline_ended_run_again(world: World) -> None:
    puppet = Puppet()
    terms = settings(gateway={"batch_deadline_s": 100}, profiles={"default": {"actors": 1, "concurrency": 1}})
    jetray = await world.gateway(puppet.kind, grouping(), settings=terms)
    await jetray.submit("group", Group(id="g", members=["running", "queued"]))
    letter = await failed(jetray)
    puppet.say("g-running", 1)
    puppet.say("g-queued", 2)
    await jetray.publish(f"control.replay.{letter}", b"")
    assert await jetray.result_of("group", "g", run=2) == [["g-running", "completed", 1], ["g-queued", "completed", 2]]
    log = await jetray.events("puppet", "g-queued")
    assert names(log) == ["cancelled", "requeued", "started", "completed"]
    assert isinstance(log[1], Requeued)
    assert log[1].dlq_sequence == 0


async def test_a_child_that_was_refused_is_tried_again(world: World) -> None:
    """Another job had its id. Gone with its stream's age, the child has it."""
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, grouping(reduce=_unless_all))
    puppet.say("g-a", 1)
    await jetray.submit("puppet", {"id": "g-a", "value": 7})
    await jetray.end_of("puppet", "g-a")
    await jetray.submit("group", Group(id="g", members=["a"]))
    letter = await failed(jetray)
    world.server.forget(subjects.EVENTS, "orchestration.puppet.*.g-a")
    await jetray.publish(f"control.replay.{letter}", b"")
    assert await jetray.result_of("group", "g", run=2) == [["g-a", "completed", 1]]


async def test_a_crash_between_two_requeues_requeues_nothing_twice(world: World) -> None:
    puppet = Puppet()
    hooks = Hooks()
    first = await world.gateway(puppet.kind, grouping(reduce=_unless_all), settings=ONE_SLOT, hooks=hooks)
    for member in "abc":
        puppet.say(f"g-{member}", Fail("no"))
    await first.submit("group", Group(id="g", members=["a", "b", "c"]))
    letter = await failed(first)
    for member in "abc":
        puppet.say(f"g-{member}", member)
    gone = anyio.Event()

    async def crash(op: str, subject: str) -> None:
        if (op, subject) == ("publish", "orchestration.puppet.requeued.g-b"):
            gone.set()
            await anyio.sleep_forever()

    hooks.on_after = crash
    await first.publish(f"control.replay.{letter}", b"")
    await gone.wait()
    await first.crash()
    second = await world.gateway()
    result = await second.result_of("group", "g", run=2)
    assert result == [["g-a", "completed", "a"], ["g-b", "completed", "b"], ["g-c", "completed", "c"]]
    for member in "abc":
        log = await second.events("puppet", f"g-{member}")
        assert names(log).count("requeued") == 1


async def test_a_child_that_was_replayed_alone_is_awaited(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, grouping(reduce=_unless_all))
    puppet.say("g-a", Fail("no"))
    await jetray.submit("group", Group(id="g", members=["a"]))
    letter = await failed(jetray)
    child = await jetray.end_of("puppet", "g-a")
    assert isinstance(child, Failed)
    puppet.say("g-a", anyio.sleep_forever)
    await jetray.publish(f"control.replay.{child.dlq_sequence}", b"")
    await world.settled(lambda: len(puppet.attempts) == 2)
    await jetray.publish(f"control.replay.{letter}", b"")
    await anyio.sleep(5)
    puppet.say("g-a", 3)
    assert names(await jetray.events("puppet", "g-a")).count("requeued") == 1


async def test_a_batch_fails_and_runs_again_as_often_as_one_likes(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, grouping(reduce=_unless_all))
    puppet.say("g-a", Fail("no"))
    await jetray.submit("group", Group(id="g", members=["a"]))
    letter = await failed(jetray)
    for run in (2, 3):
        await jetray.publish(f"control.replay.{letter}", b"")
        end = await jetray.end_of("group", "g", run=run)
        assert isinstance(end, Failed)
        assert end.run == run
        letter = end.dlq_sequence
    puppet.say("g-a", 4)
    await jetray.publish(f"control.replay.{letter}", b"")
    assert await jetray.result_of("group", "g", run=4) == [["g-a", "completed", 4]]
    log = await jetray.events("puppet", "g-a")
    assert names(log).count("requeued") == 3
    assert [msgspec.structs.asdict(event)["run"] for event in log if names([event]) == ["requeued"]] == [2, 3, 4]


async def test_a_child_cancelled_before_its_batch_began_is_the_batchs_own_in_the_next_run(
    world: World,
) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, grouping(reduce=_unless_all))
    await jetray.publish("control.cancel.puppet.g-a", b"")
    await jetray.end_of("puppet", "g-a")
    await jetray.submit("group", Group(id="g", members=["a"]))
    await jetray.publish(f"control.replay.{await failed(jetray)}", b"")
    await puppet.begun("g-a")
    await jetray.publish("control.cancel.group.g", b"")
    end = await jetray.end_of("group", "g", run=2)
    assert isinstance(end, Cancelled)
    assert end.counts is not None
    assert (end.counts["cancelled"], end.counts["open"]) == (1, 0)
    assert [event.parent for event in await jetray.events("puppet", "g-a")] == [None, *["group.g"] * 3]
