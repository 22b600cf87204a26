"""Gateways that lose a lease: they stop in time, and whoever was fenced changes nothing."""

from __future__ import annotations

import anyio
import pytest

from contracts import subjects
from contracts.events import Spent, Started
from infra.bus.base import Delivery
from infra.bus.memory import Fate
from tests.runtime.kinds import Puppet, short
from tests.runtime.world import ONE_SLOT, Hooks, World, names
from workers import JobContext

pytestmark = pytest.mark.anyio


async def test_a_job_longer_than_the_lease_runs_once(world: World) -> None:
    jetray = await world.gateway(short)
    await jetray.submit("short", {"id": "a", "value": 500})
    assert await jetray.result_of("short", "a") == 500
    assert names(await jetray.events("short", "a")) == ["started", "completed"]


async def test_a_gateway_that_is_cut_off_stops_its_attempts_in_time_and_settles_nothing(world: World) -> None:
    puppet = Puppet()
    first = await world.gateway(puppet.kind)
    await first.submit("puppet", {"id": "a"})
    await puppet.begun("a")
    await anyio.sleep(100)
    [*_, renewed] = [at for op, _, at in first.hooks.calls if op == "in_progress"]
    first.bus.disconnect()
    stopped = await puppet.ceased("a")
    assert stopped < renewed + 60, "the attempt is dead before anybody else may have the message"
    await world.settled(lambda: first.leaks() == [], within_s=1)
    assert first.rooms.fleet.status().active == []
    assert (await world.state("puppet")).unacknowledged == 1
    second = await world.gateway()
    puppet.say("a", 2)
    assert await second.result_of("puppet", "a") == 2
    log = await second.events("puppet", "a")
    assert names(log) == ["started", "started", "completed"]
    assert isinstance(log[1], Started)
    assert (log[1].attempt, log[1].spent, log[1].gateway) == (2, Spent(lost=1), "gw-2")
    assert (log[1].time - log[0].time).total_seconds() >= 100
    first.bus.reconnect()
    await anyio.sleep(300)
    assert await second.events("puppet", "a") == log


@pytest.mark.parametrize("kind", ["puppet", "short"])
async def test_a_gateway_that_was_cut_off_takes_its_own_job_over_again(world: World, kind: str) -> None:
    puppet = Puppet()
    puppet.say("a", _sleeps)
    jetray = await world.gateway(puppet.kind, short)
    await jetray.submit(kind, {"id": "a", "value": 200})
    await anyio.sleep(100)
    jetray.bus.disconnect()
    await anyio.sleep(100)
    jetray.bus.reconnect()
    end = await jetray.end_of(kind, "a")
    log = await jetray.events(kind, "a")
    assert (names(log), end.attempt) == (["started", "started", "completed"], 2)
    assert isinstance(log[1], Started)
    assert log[1].spent == Spent(lost=1)


async def test_a_short_cut_is_no_loss(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind)
    await jetray.submit("puppet", {"id": "a"})
    await puppet.begun("a")
    jetray.bus.disconnect()
    await anyio.sleep(20)
    puppet.say("a", 1)
    await anyio.sleep(5)
    assert names(await jetray.events("puppet", "a")) == ["started"]
    jetray.bus.reconnect()
    assert await jetray.result_of("puppet", "a") == 1
    assert names(await jetray.events("puppet", "a")) == ["started", "completed"]
    assert puppet.attempts == [("a", 1)]


async def test_a_fenced_attempt_changes_nothing(world: World) -> None:
    """The message goes to another gateway while the first believes that it holds the lease."""
    first_puppet, second_puppet = Puppet(), Puppet()
    first = await world.gateway(first_puppet.kind, settings=ONE_SLOT)
    await first.submit("puppet", {"id": "a"})
    await first_puppet.begun("a")
    second = await world.gateway(second_puppet.kind)
    _hand_out_again(world, "puppet", 1)
    await second_puppet.begun("a", 2)
    first_puppet.say("a", 111)
    await world.settled(lambda: first.leaks() == [], within_s=5)
    assert names(await second.events("puppet", "a")) == ["started", "started"]
    assert (await world.state("puppet")).unacknowledged == 1, "the fenced one acknowledged nothing"
    await anyio.sleep(200)
    second_puppet.say("a", 222)
    assert await second.result_of("puppet", "a") == 222
    assert names(await second.events("puppet", "a")) == ["started", "started", "completed"]


async def test_a_fenced_attempt_learns_of_it_with_its_next_report(world: World) -> None:
    async def report(ctx: JobContext) -> int:
        for done in range(1_000):
            ctx.progress(done=done)
            await anyio.sleep(1)
        return 1

    first_puppet, second_puppet = Puppet(), Puppet()
    first_puppet.say("a", report)
    first = await world.gateway(first_puppet.kind, settings=ONE_SLOT)
    await first.submit("puppet", {"id": "a"})
    await first_puppet.begun("a")
    second = await world.gateway(second_puppet.kind)
    _hand_out_again(world, "puppet", 1)
    await second_puppet.begun("a", 2)
    began = anyio.current_time()
    assert await first_puppet.ceased("a", 1) - began < 2
    second_puppet.say("a", 222)
    assert await second.result_of("puppet", "a") == 222


async def test_a_message_that_comes_again_to_whoever_runs_its_job_is_adopted(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind)
    await jetray.submit("puppet", {"id": "a"})
    await puppet.begun("a")
    _hand_out_again(world, "puppet", 1)
    await anyio.sleep(300)
    assert puppet.attempts == [("a", 1)]
    assert len(jetray.rooms.live) == 1, "one worker goes on"
    [lease] = jetray.rooms.leases._held
    assert lease.delivery.number == 2, "with the newer delivery"
    assert (await world.state("puppet")).unacknowledged == 1
    puppet.say("a", 1)
    assert await jetray.result_of("puppet", "a") == 1
    assert names(await jetray.events("puppet", "a")) == ["started", "completed"]


@pytest.mark.parametrize("word", ["started", "progress", "completed"])
async def test_a_lease_lost_in_the_very_turn_of_an_answer_harms_nobody(world: World, word: str) -> None:
    async def report(ctx: JobContext) -> int:
        ctx.progress(done=1)
        await anyio.sleep(1)
        return 1

    puppet = Puppet()
    puppet.say("a", report)
    hooks = Hooks()
    jetray = await world.gateway(puppet.kind, hooks=hooks)

    async def lose(op: str, subject: str) -> None:
        if (op, subject) == ("publish", f"orchestration.puppet.{word}.a"):
            hooks.on_after = Hooks().on_after
            for lease in [*jetray.rooms.leases._held]:
                jetray.rooms.leases._give_up(lease)

    hooks.on_after = lose
    await jetray.submit("puppet", {"id": "a"})
    assert await jetray.result_of("puppet", "a") == 1
    await world.settled(lambda: world.kept(subjects.JOBS) == [])
    assert names(await jetray.events("puppet", "a")).count("started") == (1 if word == "completed" else 2)


async def test_a_lease_lost_in_the_very_turn_of_other_news_harms_nobody(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind)
    await jetray.submit("puppet", {"id": "a"})
    await puppet.begun("a")
    [worker], [lease] = jetray.rooms.live, jetray.rooms.leases._held
    worker.drain()
    jetray.rooms.leases._give_up(lease)
    puppet.say("a", 1)
    assert await jetray.result_of("puppet", "a") == 1
    assert names(await jetray.events("puppet", "a")) == ["started", "started", "completed"]


class _Twice(Hooks):
    """Hands every delivery from a given one on out a second time at once, as after a change of leader."""

    def __init__(self, since: int) -> None:
        super().__init__()
        self.since = since

    def delivery(self, delivery: Delivery) -> Fate:
        return "twice" if delivery.number == self.since else "arrives"


@pytest.mark.parametrize("kind", ["puppet", "short"])
@pytest.mark.parametrize("since", [1, 2])
async def test_two_deliveries_in_hand_at_once_make_one_attempt(world: World, kind: str, since: int) -> None:
    puppet = Puppet()
    puppet.say("a", _sleeps)
    jetray = await world.gateway(puppet.kind, short, hooks=_Twice(since))
    await jetray.submit(kind, {"id": "a", "value": 200})
    await anyio.sleep(100)
    if since == 2:
        jetray.bus.disconnect()
        await anyio.sleep(100)
        jetray.bus.reconnect()
    await jetray.end_of(kind, "a")
    assert names(await jetray.events(kind, "a")) == ["started"] * since + ["completed"]
    await world.settled(lambda: world.kept(subjects.JOBS) == [], within_s=100)


async def _sleeps(ctx: JobContext) -> int:
    await anyio.sleep(200)
    return 200


def _hand_out_again(world: World, consumer: str, sequence: int) -> None:
    """As a stale nak of somebody else's does."""
    world.server.consumer(subjects.JOBS, consumer).nak(sequence, 0.0, anyio.current_time())
