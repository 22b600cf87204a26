"""Slots, and streams that are full: nothing beyond them is taken, and nothing is lost."""

from __future__ import annotations

import anyio
import pytest

from contracts import subjects
from contracts.events import Failed
from tests.runtime.kinds import Puppet, Task, acting
from tests.runtime.world import World, settings
from workers import JobContext

pytestmark = pytest.mark.anyio


# --- credit


async def test_two_kinds_that_share_a_profile_share_its_slots(world: World) -> None:
    running = most_running = most_in_hand = 0

    async def work(ctx: JobContext, task: Task) -> None:
        nonlocal running, most_running
        running += 1
        most_running = max(most_running, running)
        await anyio.sleep(1)
        running -= 1

    kinds = [acting("one", work), acting("other", work)]
    jetray = await world.gateway(*kinds, settings=settings(profiles={"default": {"actors": 2, "concurrency": 2}}))
    for number in range(20):
        for kind in kinds:
            await jetray.submit(kind.name, {"id": f"{number}"}, high=number % 5 == 0)
    lanes = [f"{kind.name}{lane}" for kind in kinds for lane in ("", "-high")]
    with anyio.fail_after(600):
        while world.kept(subjects.JOBS):
            most_in_hand = max(most_in_hand, sum([(await world.state(lane)).unacknowledged for lane in lanes]))
            await anyio.sleep(0.1)
    assert most_running == 4, "every slot is used, and no other"
    assert most_in_hand <= 4 + 2 + len(lanes), "slots, one ahead for each actor, and a probe for each lane"


async def test_a_kind_alone_has_no_more_in_hand_than_slots_and_what_is_fetched_ahead(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind)
    for number in range(20):
        await jetray.submit("puppet", {"id": f"{number}"})
    for number in range(20):
        await puppet.begun(f"{number}")
        state = await world.state("puppet")
        assert state.unacknowledged <= 2 + 1
        puppet.say(f"{number}", 1)
    await jetray.end_of("puppet", "19")
    assert puppet.most == 2


# --- streams that are full


async def test_while_events_is_full_nothing_is_acknowledged_and_then_it_goes_on(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind)
    await jetray.submit("puppet", {"id": "a"})
    await puppet.begun("a")
    events = world.server.stream(subjects.EVENTS)
    room, events.config["max_bytes"] = events.config["max_bytes"], 1
    await jetray.submit("puppet", {"id": "b"})
    puppet.say("a", 1)
    puppet.say("b", 2)
    await anyio.sleep(300)
    state = await world.state("puppet")
    assert (state.unacknowledged, state.redelivered) == (2, 0), "held, and their leases renewed"
    assert puppet.attempts == [("a", 1)], "no user code runs before its started is durable"
    events.config["max_bytes"] = room
    assert await jetray.result_of("puppet", "a") == 1
    assert await jetray.result_of("puppet", "b") == 2
    assert puppet.attempts == [("a", 1), ("b", 1)]


async def test_while_dlq_is_full_nothing_is_acknowledged_and_then_it_goes_on(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind)
    letters = world.server.stream(subjects.DLQ)
    room, letters.config["max_bytes"] = letters.config["max_bytes"], 1
    undecodable = await jetray.submit("puppet", b"nonsense")
    await anyio.sleep(300)
    assert (await world.state("puppet")).unacknowledged == 1
    assert await jetray.events("puppet", undecodable) == [], "DLQ first, then failed"
    letters.config["max_bytes"] = room
    end = await jetray.end_of("puppet", undecodable)
    assert isinstance(end, Failed)
    assert [letter.sequence for letter in jetray.dead_letters()] == [end.dlq_sequence]
