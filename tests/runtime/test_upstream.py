"""Queues that are too deep: said once, worked down, and what feeds them waits meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import msgspec
import pytest

from contracts import headers as h
from contracts import subjects
from contracts.events import Cancelled, Completed, Failed
from infra.bus.base import NoAnswer, StreamFull
from infra.bus.topology import StreamSpec, Topology
from tests.runtime.kinds import Group, Puppet, Task, grouping
from tests.runtime.world import Member, World, settings
from workers import Child
from workers.runtime.depths import LOOK_S as DEPTHS_S
from workers.runtime.upstream import FRESH_S, LOOK_S

pytestmark = pytest.mark.anyio

MARKS = {"high": 8, "low": 3}


def marked(**sections: Any) -> Any:
    return settings(watermarks=MARKS, **sections)


def said(world: World) -> list[dict[str, Any]]:
    return [msgspec.json.decode(message.body) for message in world.kept(subjects.WORKERS, "workers.backpressure.>")]


def told(world: World) -> list[tuple[str, str, str]]:
    return [(body["event"].partition(".")[2], body["kind"], body["gateway"]) for body in said(world)]


def let_go(puppet: Puppet, count: int, prefix: str = "job-") -> None:
    for number in range(count):
        puppet.say(f"{prefix}{number}", number)


async def fill(jetray: Member, count: int, kind: str = "puppet") -> None:
    for number in range(count):
        await jetray.submit(kind, {"id": f"job-{number}"})


class Gauge:
    """The greatest number of messages that a kind had at once."""

    def __init__(self, world: World, kind: str = "puppet") -> None:
        self._world = world
        self._subject = subjects.job(kind)
        self.most = 0

    @property
    def now(self) -> int:
        return len(self._world.kept(subjects.JOBS, self._subject))

    def watch(self, *members: Member) -> Gauge:
        for member in members:
            member.hooks.on_after = self._after
        return self

    async def _after(self, op: str, subject: str) -> None:
        self.most = max(self.most, self.now)


# --- what is said ---


async def test_pressure_is_said_once_when_it_begins_and_once_when_it_is_over(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, settings=marked())
    await fill(jetray, 7)
    await anyio.sleep(2 * DEPTHS_S)
    assert said(world) == []
    for number in range(7, 12):
        await jetray.submit("puppet", {"id": f"job-{number}"})
    await anyio.sleep(10 * DEPTHS_S)
    [applied] = said(world)
    assert {name: applied[name] for name in ("event", "kind", "depth", "high", "actors", "reason")} == {
        "event": "backpressure.applied",
        "kind": "puppet",
        "depth": 12,
        "high": 8,
        "actors": 1,
        "reason": "depth",
    }
    assert 2 * DEPTHS_S * 1000 <= applied["waited_ms"] <= 12 * DEPTHS_S * 1000
    let_go(puppet, 12)
    for number in range(12):
        await jetray.end_of("puppet", f"job-{number}")
    await anyio.sleep(2 * DEPTHS_S)
    _, released = said(world)
    assert (released["event"], released["kind"], released["low"]) == ("backpressure.released", "puppet", 3)
    assert released["depth"] <= 3
    assert released["completed"] >= 12 - 3 - 2, "two are in hand, and are known to be done a little later"
    assert released["lasted_ms"] == pytest.approx(50_000, abs=12_000)


async def test_between_the_marks_nothing_is_said(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, settings=marked())
    for number in range(100):
        await jetray.submit("puppet", {"id": f"job-{number}"})
        if number >= 6:
            puppet.say(f"job-{number - 6}", 0)
        await anyio.sleep(1)
    assert said(world) == [], "up to seven"
    for number in range(100, 105):
        await jetray.submit("puppet", {"id": f"job-{number}"})
    await anyio.sleep(2 * DEPTHS_S)
    for number in range(105, 200):
        puppet.say(f"job-{number - 11}", 0)
        await jetray.submit("puppet", {"id": f"job-{number}"})
        await anyio.sleep(1)
    assert [word for word, _, _ in told(world)] == ["applied"], "between five and eleven"
    let_go(puppet, 200)
    await anyio.sleep(2 * DEPTHS_S)
    assert [word for word, _, _ in told(world)] == ["applied", "released"]


async def test_a_kind_may_have_marks_of_its_own(world: World) -> None:
    one, other = Puppet("one"), Puppet("other")
    jetray = await world.gateway(one.kind, other.kind, settings=marked(kinds={"settings": {"one": {"high": 20}}}))
    await fill(jetray, 12, "one")
    await fill(jetray, 12, "other")
    await anyio.sleep(2 * DEPTHS_S)
    assert told(world) == [("applied", "other", "gw-1")]
    await fill(jetray, 20, "one")
    for number in range(12, 20):
        await jetray.submit("one", {"id": f"job-{number}"})
    await anyio.sleep(2 * DEPTHS_S)
    assert [body["high"] for body in said(world)] == [8, 20]
    let_go(one, 20)
    let_go(other, 12)
    await anyio.sleep(2 * DEPTHS_S)
    assert len(told(world)) == 4


# --- what waits ---


async def test_routes_into_the_kind_are_not_pulled_and_its_queue_is_worked(world: World) -> None:
    puppet = Puppet()
    await world.client.apply(Topology(streams=(StreamSpec(name="DESIGN", subjects=("design.>",)),)))
    routes = [{"subject": "design.asked", "kind": "puppet", "name": "asked"}]
    four = {"default": {"actors": 1, "concurrency": 4}}
    jetray = await world.gateway(puppet.kind, settings=marked(routes=routes, profiles=four))
    await fill(jetray, 10)
    await anyio.sleep(2 * DEPTHS_S)
    await jetray.publish("design.asked", {"id": "routed"})
    for number in range(6):
        puppet.say(f"job-{number}", number)
        await jetray.end_of("puppet", f"job-{number}", within_s=5)
    puppet.say("routed", "R")
    await anyio.sleep(10 * DEPTHS_S)
    assert (await world.client.consumer("DESIGN", "jetray-asked")).waiting == 1
    puppet.say("job-6", 6)
    assert isinstance(await jetray.end_of("puppet", "routed", within_s=2 * DEPTHS_S), Completed)
    let_go(puppet, 10)


async def test_a_batch_publishes_no_further_than_the_high_mark_and_goes_on_at_the_low_one(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, grouping(), settings=marked())
    gauge = Gauge(world).watch(jetray)
    members = [f"m{number}" for number in range(60)]
    await jetray.submit("group", Group(id="g", members=members))
    await anyio.sleep(10 * DEPTHS_S)
    assert gauge.now == 8
    assert [body["depth"] for body in said(world)] == [8]
    for number in range(4):
        puppet.say(f"g-m{number}", number)
        await jetray.end_of("puppet", f"g-m{number}", within_s=5)
    await anyio.sleep(10 * DEPTHS_S)
    assert gauge.now == 4, "not yet"
    puppet.say("g-m4", 4)
    await jetray.end_of("puppet", "g-m4", within_s=5)
    await anyio.sleep(2 * LOOK_S)
    assert gauge.now == 8, "and up to the mark again"
    for member in members:
        puppet.say(f"g-{member}", member)
    ends = await jetray.result_of("group", "g")
    assert [outcome for _, outcome, _ in ends] == ["completed"] * 60
    assert gauge.most == 8
    words = [word for word, _, _ in told(world)]
    await anyio.sleep(2 * DEPTHS_S)
    assert words == ["applied", "released"] * (len(words) // 2)


async def test_many_batches_share_the_room(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, grouping(), settings=marked())
    gauge = Gauge(world).watch(jetray)
    for batch in range(10):
        await jetray.submit("group", Group(id=f"g{batch}", members=[f"m{number}" for number in range(10)]))
    await anyio.sleep(10 * DEPTHS_S)
    for batch in range(10):
        let_go(puppet, 10, f"g{batch}-m")
    for batch in range(10):
        assert isinstance(await jetray.end_of("group", f"g{batch}"), Completed)
    assert gauge.most == 8


async def test_children_of_another_kind_are_not_held_back(world: World) -> None:
    def both(group: Group) -> Sequence[Child]:
        return [Child(key=name, kind=name.strip("0123456789"), input=Task(id=name)) for name in group.members]

    slow, quick = Puppet("slow", profile="other"), Puppet("quick")
    terms = marked(profiles={"default": {"actors": 1}, "other": {"actors": 1, "concurrency": 2}})
    jetray = await world.gateway(slow.kind, quick.kind, grouping(both), settings=terms)
    names = [*(f"slow{number}" for number in range(20)), *(f"quick{number}" for number in range(5))]
    let_go(quick, 5, "quick")
    await jetray.submit("group", Group(id="g", members=names))
    for number in range(5):
        assert isinstance(await jetray.end_of("quick", f"g-quick{number}", within_s=5), Completed)
    let_go(slow, 20, "slow")
    assert isinstance(await jetray.end_of("group", "g"), Completed)


async def test_a_batch_that_cannot_be_published_waits_for_no_queue(world: World) -> None:
    def both(group: Group) -> Sequence[Child]:
        return [Child(key=name, kind=name.strip("0123456789"), input=Task(id=name)) for name in group.members]

    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, grouping(both), settings=marked())
    await fill(jetray, 12)
    await anyio.sleep(2 * DEPTHS_S)
    await jetray.submit("group", Group(id="g", members=["puppet1", "nobody1"]))
    end = await jetray.end_of("group", "g", within_s=60)
    assert isinstance(end, Failed)
    assert end.error.reason == "unknown_kind"
    let_go(puppet, 12)


async def test_a_batch_of_its_own_kind_does_not_wait_for_itself(world: World) -> None:
    def halves(group: Group) -> Sequence[Child]:
        half = len(group.members) // 2
        if not half:
            return [Child(key="leaf", kind="puppet", input=Task(id="leaf"))]
        parts = {"a": group.members[:half], "b": group.members[half:]}
        return [Child(key=key, kind="group", input=Group(id=key, members=part)) for key, part in parts.items()]

    puppet = Puppet()
    terms = settings(kinds={"settings": {"group": {"high": 2, "low": 0}}})
    jetray = await world.gateway(puppet.kind, grouping(halves), settings=terms)
    puppet.say("leaf", 1)
    await jetray.submit("group", Group(id="g", members=["a", "b", "c", "d"]))
    assert isinstance(await jetray.end_of("group", "g", within_s=60), Completed)


@pytest.mark.parametrize("how", ["cancel", "deadline"])
async def test_a_batch_that_waits_can_be_ended(world: World, how: str) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, grouping(deadline=100), settings=marked())
    await jetray.submit("group", Group(id="g", members=[f"m{number}" for number in range(20)]))
    await anyio.sleep(20)
    if how == "cancel":
        await jetray.publish("control.cancel.group.g", b"")
    end = await jetray.end_of("group", "g", within_s=120)
    assert isinstance(end, Cancelled if how == "cancel" else Failed)
    for number in range(20):
        assert isinstance(await jetray.end_of("puppet", f"g-m{number}", within_s=10), Cancelled)


# --- more gateways than one ---


async def test_a_gateway_that_does_not_run_the_kind_respects_its_queue(world: World) -> None:
    puppet = Puppet()
    runs = await world.gateway(puppet.kind, settings=marked(routes=[]))
    batches = await world.gateway(grouping(), settings=marked(routes=[]))
    gauge = Gauge(world).watch(runs, batches)
    await batches.submit("group", Group(id="g", members=[f"m{number}" for number in range(30)]))
    await anyio.sleep(10 * DEPTHS_S)
    assert gauge.now == 8
    let_go(puppet, 30, "g-m")
    assert isinstance(await batches.end_of("group", "g"), Completed)
    assert gauge.most == 8
    await anyio.sleep(2 * DEPTHS_S)
    assert {gateway for _, _, gateway in told(world)} == {"gw-1"}, "who runs it says it"


async def test_what_others_publish_is_seen_before_the_next_child(world: World) -> None:
    puppet = Puppet()
    runs = await world.gateway(puppet.kind, settings=marked(routes=[]))
    batches = await world.gateway(grouping(), settings=marked(routes=[]))
    puppet.say("early-a", 0)
    await batches.submit("group", Group(id="early", members=["a"]))
    await batches.end_of("group", "early")
    await anyio.sleep(2 * FRESH_S)
    await fill(runs, 12)
    await batches.submit("group", Group(id="late", members=["a"]))
    await anyio.sleep(10 * DEPTHS_S)
    assert len(world.kept(subjects.JOBS, "jobs.puppet")) == 12
    let_go(puppet, 12)
    puppet.say("late-a", 0)
    assert isinstance(await batches.end_of("group", "late"), Completed)


async def test_what_comes_from_elsewhere_uses_up_the_room_of_children(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, grouping(), settings=marked())
    await jetray.submit("group", Group(id="early", members=["a"]))
    await puppet.begun("early-a")
    await fill(jetray, 12)
    puppet.say("early-a", 0)
    await jetray.end_of("group", "early")
    assert anyio.current_time() - jetray.rooms.upstream._queues["puppet"].seen < FRESH_S
    await jetray.submit("group", Group(id="late", members=["a"]))
    await anyio.sleep(10 * DEPTHS_S)
    assert "late-a" not in [message.headers.get(h.JOB_ID) for message in world.kept(subjects.JOBS, "jobs.puppet")]
    let_go(puppet, 12)
    puppet.say("late-a", 0)
    assert isinstance(await jetray.end_of("group", "late"), Completed)


async def test_two_gateways_of_the_kind_decide_alike(world: World) -> None:
    puppet = Puppet()
    one = await world.gateway(puppet.kind, grouping(), settings=marked())
    other = await world.gateway()
    for batch in range(4):
        await one.submit("group", Group(id=f"g{batch}", members=[f"m{number}" for number in range(30)]))
    await anyio.sleep(10 * DEPTHS_S)
    assert len(world.kept(subjects.JOBS, "jobs.puppet")) <= 2 * 8, "each may fill up what it saw"
    assert {one.rooms.upstream.pressed("puppet"), other.rooms.upstream.pressed("puppet")} == {True}
    for batch in range(4):
        let_go(puppet, 30, f"g{batch}-m")
    for batch in range(4):
        assert isinstance(await one.end_of("group", f"g{batch}"), Completed)
    await anyio.sleep(2 * DEPTHS_S)
    for name in ("gw-1", "gw-2"):
        words = [word for word, _, gateway in told(world) if gateway == name]
        assert words == ["applied", "released"] * (len(words) // 2)
        assert words


# --- where the bus does not answer ---


async def test_without_a_figure_children_are_published_all_the_same(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, grouping(), settings=marked())

    async def refuse(op: str, subject: str) -> None:
        if op == "consumer":
            raise NoAnswer("lost on the way")

    jetray.hooks.on_before = refuse
    let_go(puppet, 30, "g-m")
    await jetray.submit("group", Group(id="g", members=[f"m{number}" for number in range(30)]))
    assert isinstance(await jetray.end_of("group", "g", within_s=60), Completed)


async def test_without_a_connection_nobody_looks_without_a_pause(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, settings=marked())
    upstream, looks = jetray.rooms.upstream, 0
    look = upstream._look

    async def counted(kind: str) -> None:
        nonlocal looks
        looks += 1
        assert looks < 100
        await look(kind)

    upstream._look = counted  # type: ignore[method-assign]
    jetray.bus.disconnect()
    with anyio.move_on_after(10):
        async with upstream.admit("puppet"):
            pass
    assert looks == pytest.approx(10 / LOOK_S, abs=1)
    jetray.bus.reconnect()


async def test_a_batch_that_waits_sits_out_an_outage(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, grouping(), settings=marked())
    await jetray.submit("group", Group(id="g", members=[f"m{number}" for number in range(20)]))
    await anyio.sleep(2 * DEPTHS_S)
    jetray.bus.disconnect()
    await anyio.sleep(20)
    calls = len(jetray.hooks.calls)
    jetray.bus.reconnect()
    await anyio.sleep(5)
    assert len(jetray.hooks.calls) - calls < 200, "nobody spins"
    let_go(puppet, 20, "g-m")
    assert isinstance(await jetray.end_of("group", "g"), Completed)


# --- full queues ---


async def test_a_full_queue_refuses_its_publishers_and_no_other_kinds(world: World) -> None:
    one, other = Puppet("one"), Puppet("other")
    jetray = await world.gateway(one.kind, other.kind, settings=marked(streams={"jobs_per_kind": 10}))
    await fill(jetray, 10, "one")
    with pytest.raises(StreamFull) as refused:
        await jetray.submit("one", {"id": "one-too-many"})
    assert refused.value.err_code == 10077
    assert await jetray.submit("one", {"id": "urgent"}, high=True) == "urgent", "a lane of its own"
    await fill(jetray, 10, "other")
    let_go(one, 10)
    let_go(other, 10)
    one.say("urgent", 1)
    for number in range(10):
        assert isinstance(await jetray.end_of("one", f"job-{number}"), Completed)
        assert isinstance(await jetray.end_of("other", f"job-{number}"), Completed)


async def test_a_batch_into_a_full_queue_waits_and_goes_on(world: World) -> None:
    puppet = Puppet()
    terms = settings(streams={"jobs_per_kind": 10}, watermarks={"high": 50, "low": 10})
    jetray = await world.gateway(puppet.kind, grouping(), settings=terms)
    gauge = Gauge(world).watch(jetray)
    await jetray.submit("group", Group(id="g", members=[f"m{number}" for number in range(40)]))
    await anyio.sleep(30)
    assert gauge.now == 10
    let_go(puppet, 40, "g-m")
    ends = await jetray.result_of("group", "g")
    assert [outcome for _, outcome, _ in ends] == ["completed"] * 40
    assert said(world) == [], "it never got that deep"


# --- pools that grow ---


async def test_pressure_begins_when_the_pool_has_grown_and_children_come_in_portions_until_then(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, settings=marked())
    upstream = jetray.rooms.upstream
    grown = False
    upstream._grown = lambda kind: grown
    await fill(jetray, 12)
    await anyio.sleep(2 * DEPTHS_S + 1)
    assert said(world) == []
    before = len(jetray.hooks.calls)
    for _ in range(15):
        async with upstream.admit("puppet"):
            pass
    looks = sum(op == "consumer" for op, _, _ in jetray.hooks.calls[before:])
    assert looks == 3 * 2, "two lanes, each time that high - low are published"
    grown = True
    upstream.grew()
    upstream.grew()
    await anyio.sleep(1)
    assert told(world) == [("applied", "puppet", "gw-1")]
    assert upstream.pressed("puppet")
    let_go(puppet, 12)
