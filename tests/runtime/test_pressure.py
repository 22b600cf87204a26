"""Full streams: nothing is acknowledged, nothing more is pulled, it is said once, and it ends by itself."""

from __future__ import annotations

from typing import Any

import anyio
import msgspec
import pytest

from contracts import subjects
from contracts.events import Completed, Failed
from infra.bus.base import StreamFull
from tests.runtime.kinds import Puppet
from tests.runtime.world import Member, World, names, settings
from workers.runtime.pressure import CALM_S, ROOM_S

pytestmark = pytest.mark.anyio

LEASE_S = 60.0


def fill(world: World, stream: str) -> None:
    """Leave no room in a stream."""
    kept = world.server.stream(stream)
    kept.update({"max_bytes": kept.bytes + 1})


def make_room(world: World, stream: str, more: int = 1 << 30) -> None:
    kept = world.server.stream(stream)
    kept.update({"max_bytes": kept.config["max_bytes"] + more})


def said(world: World, topic: str = "backpressure") -> list[dict[str, Any]]:
    """What gateways said of it, in order."""
    return [msgspec.json.decode(message.body) for message in world.kept(subjects.WORKERS, f"workers.{topic}.>")]


def told(world: World) -> list[tuple[str, str]]:
    return [(body["event"].partition(".")[2], body["kind"]) for body in said(world)]


def tries(jetray: Member, subject: str) -> int:
    return sum(op == "publish" and with_.startswith(subject) for op, with_, _ in jetray.hooks.calls)


async def test_while_events_is_full_everything_waits_and_then_goes_on_by_itself(world: World) -> None:
    one, other = Puppet("one"), Puppet("other")
    jetray = await world.gateway(one.kind, other.kind)
    await jetray.submit("one", {"id": "a"})
    await jetray.submit("other", {"id": "b"})
    await one.begun("a")
    await other.begun("b")
    fill(world, subjects.EVENTS)
    one.say("a", "A")
    other.say("b", "B")
    await anyio.sleep(5)
    for number in range(5):
        await jetray.submit("one", {"id": f"later-{number}"})
        one.say(f"later-{number}", number)
    before = tries(jetray, "orchestration.")
    await anyio.sleep(10 * LEASE_S)
    assert len(world.kept(subjects.JOBS)) == 7, "nothing is acknowledged"
    state = await world.state("one")
    assert (state.waiting, state.unacknowledged, state.redelivered) == (5, 1, 0), "what is in hand is renewed"
    assert len(jetray.rooms.live) == 2, "nothing more is pulled"
    assert tries(jetray, "orchestration.") - before <= 2 * 10 * LEASE_S / 2.0 + 2, "nobody spins"
    kinds = sorted(jetray.kinds)
    assert told(world) == [("applied", kind) for kind in kinds]
    applied = next(body for body in said(world) if body["kind"] == "one")
    assert (applied["reason"], applied["high"], applied["actors"]) == ("events_full", 1_000, 1)
    make_room(world, subjects.EVENTS)
    for job_id in ("a", *(f"later-{number}" for number in range(5))):
        assert isinstance(await jetray.end_of("one", job_id, within_s=30), Completed)
    assert names(await jetray.events("other", "b")) == ["started", "completed"]
    await anyio.sleep(2 * ROOM_S)
    assert told(world) == [("applied", kind) for kind in kinds] + [("released", kind) for kind in kinds]
    released = next(body for body in said(world)[len(kinds) :] if body["kind"] == "other")
    assert released["lasted_ms"] == pytest.approx(1_000 * (10 * LEASE_S + 5), abs=5_000)
    assert (released["low"], released["completed"]) == (250, 1)


async def test_a_message_that_finds_events_full_at_its_start_runs_nothing_until_there_is_room(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind)
    fill(world, subjects.EVENTS)
    puppet.say("a", 1)
    await jetray.submit("puppet", {"id": "a"})
    await anyio.sleep(3 * LEASE_S)
    assert puppet.attempts == []
    make_room(world, subjects.EVENTS)
    await jetray.end_of("puppet", "a")
    assert puppet.attempts == [("a", 1)]


async def test_a_stream_that_makes_room_bit_by_bit_does_not_flap(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind)
    fill(world, subjects.EVENTS)
    for number in range(20):
        puppet.say(f"job-{number}", number)
        await jetray.submit("puppet", {"id": f"job-{number}"})
    for _ in range(200):
        await anyio.sleep(CALM_S / 2)
        make_room(world, subjects.EVENTS, 400)
    for number in range(20):
        await jetray.end_of("puppet", f"job-{number}")
    await anyio.sleep(2 * ROOM_S)
    assert [word for word, kind in told(world) if kind == "puppet"] == ["applied", "released"]


async def test_after_an_outage_a_stream_that_is_still_full_is_not_said_to_be_so_again(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind)
    fill(world, subjects.EVENTS)
    puppet.say("a", 1)
    await jetray.submit("puppet", {"id": "a"})
    await anyio.sleep(5)
    jetray.bus.disconnect()
    await anyio.sleep(2 * LEASE_S)
    assert len(jetray.rooms.live) == 0, "its lease is over"
    jetray.bus.reconnect()
    await anyio.sleep(2 * LEASE_S)
    mine = [word for word, kind in told(world) if kind == "puppet"]
    assert mine == ["applied"]
    assert jetray.rooms.pressure.paused("puppet")
    make_room(world, subjects.EVENTS)
    await jetray.end_of("puppet", "a", within_s=30)
    await anyio.sleep(2 * ROOM_S)
    assert [word for word, kind in told(world) if kind == "puppet"] == ["applied", "released"]


async def test_where_nobody_waits_any_more_the_next_write_tells_that_there_is_room(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind)
    pressure = jetray.rooms.pressure
    with anyio.move_on_after(5):
        with pressure.events_full(StreamFull(503, 10077, "maximum bytes exceeded")):
            assert pressure.paused("puppet")
            await anyio.sleep_forever()
    await anyio.sleep(2 * CALM_S)
    assert not pressure.paused("puppet"), "somebody has to try"
    assert [word for word, _ in told(world) if word == "released"] == []
    puppet.say("a", 1)
    await jetray.submit("puppet", {"id": "a"})
    await jetray.end_of("puppet", "a")
    await anyio.sleep(2 * ROOM_S)
    assert {word for word, _ in told(world)} == {"applied", "released"}


async def test_while_dlq_is_full_the_kind_stops_and_the_others_go_on(world: World) -> None:
    picky, other = Puppet("picky"), Puppet("other")
    jetray = await world.gateway(picky.kind, other.kind)
    fill(world, subjects.DLQ)
    for _ in range(6):
        await jetray.submit("picky", b"nonsense")
    await anyio.sleep(2 * LEASE_S)
    assert len(world.kept(subjects.JOBS)) == 6
    state = await world.state("picky")
    assert state.redelivered == 0
    assert 1 <= state.unacknowledged <= 2, "no more than there are slots"
    for number in range(4):
        other.say(f"job-{number}", number)
        assert await jetray.submit("other", {"id": f"job-{number}"})
        assert isinstance(await jetray.end_of("other", f"job-{number}", within_s=5), Completed)
    assert told(world) == [("applied", "picky")]
    assert said(world)[0]["reason"] == "dlq_full"
    make_room(world, subjects.DLQ)
    for sequence in range(1, 7):
        assert isinstance(await jetray.end_of("picky", f"JOBS-{sequence}", within_s=30), Failed)
    assert len(jetray.dead_letters()) == 6
    await anyio.sleep(2 * ROOM_S)
    assert told(world) == [("applied", "picky"), ("released", "picky")]


async def test_a_job_whose_attempts_are_spent_waits_for_room_in_dlq_too(world: World) -> None:
    picky = Puppet("picky")
    jetray = await world.gateway(picky.kind, settings=settings(retry={"max_attempts": 1}))
    fill(world, subjects.DLQ)
    picky.say("a", ValueError("no"))
    await jetray.submit("picky", {"id": "a"})
    await anyio.sleep(3 * LEASE_S)
    assert names(await jetray.events("picky", "a")) == ["started"]
    assert picky.attempts == [("a", 1)]
    make_room(world, subjects.DLQ)
    assert isinstance(await jetray.end_of("picky", "a", within_s=30), Failed)


async def test_commands_do_not_pile_up_while_events_is_full(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind)
    fill(world, subjects.EVENTS)
    for number in range(50):
        await jetray.publish(f"control.cancel.puppet.job-{number}", b"")
    await anyio.sleep(2 * LEASE_S)
    state = await world.state("cancel", stream=subjects.CONTROL)
    assert (state.unacknowledged, state.waiting) == (16, 34)
    make_room(world, subjects.EVENTS)
    await world.settled(lambda: world.kept(subjects.CONTROL) == [], within_s=60)
    assert len(said(world, "control")) == 50


async def test_a_gateway_that_drains_while_events_is_full_gives_back_what_it_has(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, settings=settings(gateway={"grace_s": 5}))
    await jetray.submit("puppet", {"id": "runs"})
    await puppet.begun("runs")
    fill(world, subjects.EVENTS)
    await jetray.submit("puppet", {"id": "begins"})
    await anyio.sleep(5)
    began = anyio.current_time()
    await jetray.drain()
    assert anyio.current_time() - began <= 5 + 10 + 3
    make_room(world, subjects.EVENTS)
    puppet.say("runs", 1)
    puppet.say("begins", 2)
    second = await world.gateway()
    for job_id in ("runs", "begins"):
        assert isinstance(await second.end_of("puppet", job_id, within_s=5), Completed), "not with a lease's end"
