"""Draining: what runs may finish, the rest is given back at once, and nothing new is pulled."""

from __future__ import annotations

import anyio
import pytest

from contracts import inbound
from contracts.errors import ErrorInfo
from contracts.events import Completed, Retrying, Spent, Started
from tests.runtime.kinds import Puppet
from tests.runtime.world import APPROVED, World, names, plan, settings
from workers.kinds.registry import Kind
from workers.runtime.quarantine import Quarantine, Undecided

pytestmark = pytest.mark.anyio


async def test_draining_lets_finish_what_can_and_gives_back_the_rest(world: World) -> None:
    quick, slow = Puppet("quick"), Puppet("slow")
    jetray = await world.gateway(quick.kind, slow.kind, settings=settings(gateway={"grace_s": 30}))
    await jetray.submit("quick", {"id": "finishes"})
    await jetray.submit("slow", {"id": "does-not"})
    await quick.begun("finishes")
    await slow.begun("does-not")
    await jetray.submit("slow", {"id": "waits-for-a-slot"}, high=True)
    await world.settled(lambda: len(jetray.rooms.live) == 3)
    began = anyio.current_time()
    jetray.gateway.drain("the test says so")
    second = await world.gateway()
    await jetray.submit("quick", {"id": "comes-late"})
    await slow.begun("waits-for-a-slot", within_s=2)
    await quick.begun("comes-late", within_s=2)
    assert names(await jetray.events("slow", "does-not")) == ["started"], "running jobs get the grace period"
    quick.say("finishes", 1)
    quick.say("comes-late", 1)
    slow.say("waits-for-a-slot", 1)
    await jetray.over.wait()
    assert anyio.current_time() - began == pytest.approx(30, abs=2)
    for kind, job_id in (("quick", "comes-late"), ("slow", "waits-for-a-slot")):
        assert {event.gateway for event in await jetray.events(kind, job_id)} == {"gw-2"}
    assert names(await jetray.events("quick", "finishes")) == ["started", "completed"]
    await slow.begun("does-not", 2, within_s=2)
    [_, again, start] = await jetray.events("slow", "does-not")
    assert isinstance(again, Retrying)
    assert isinstance(start, Started)
    assert (again.gateway, again.error.reason, again.error.type, again.delay_ms) == ("gw-1", "lost", "Drained", 0)
    assert (again.spent, start.spent, start.gateway) == (Spent(), Spent(), "gw-2")
    assert slow.stopped.keys() == {("does-not", 1)}
    slow.say("does-not", 1)
    assert isinstance(await second.end_of("slow", "does-not"), Completed)


class _Hanging(Quarantine):
    """Never comes to a verdict by itself."""

    def __init__(self) -> None:
        self.asked = anyio.Event()

    async def try_out(
        self, message: inbound.Message, kind: Kind, limits: inbound.Limits, *, foreign: bool
    ) -> ErrorInfo | None:
        self.asked.set()
        await anyio.sleep(3_600)
        return None


async def test_what_is_being_tried_out_is_given_back_at_once(world: World) -> None:
    puppet = Puppet()
    first = await world.gateway(puppet.kind)
    hanging = _Hanging()
    first.rooms.intake._quarantine = hanging
    await first.submit("puppet", {"id": "a"})
    await puppet.begun("a")
    # Two lost answers to renewals are two more deliveries: whoever takes the third is careful with it.
    for attempt in (2, 3):
        first.bus.disconnect()
        await anyio.sleep(70)
        first.rooms.intake._survived.clear()
        first.bus.reconnect()
        if attempt == 2:
            await puppet.begun("a", 2)
    await hanging.asked.wait()
    assert len(first.rooms.live) == 1
    began = anyio.current_time()
    await first.drain()
    assert anyio.current_time() - began < 2, "nothing to wait for"
    second = await world.gateway()
    puppet.say("a", 1)
    assert isinstance(await second.end_of("puppet", "a", within_s=5), Completed)
    spent = [event.spent for event in await second.events("puppet", "a") if isinstance(event, Started)]
    assert [each.lost for each in spent] == [0, 1, 2]


class _Unsure(Quarantine):
    """Comes to its verdict at the third try."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    async def try_out(
        self, message: inbound.Message, kind: Kind, limits: inbound.Limits, *, foreign: bool
    ) -> ErrorInfo | None:
        self.asked.append(anyio.current_time())
        if len(self.asked) < 3:
            raise Undecided("somebody killed it", 10.0 * len(self.asked))
        return None


async def test_what_nobody_could_decide_about_comes_again_and_its_log_is_left_alone(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind)
    jetray.rooms.intake._quarantine = unsure = _Unsure()
    await jetray.submit("puppet", {"id": "a"})
    await puppet.begun("a")
    for attempt in (2, 3):
        jetray.bus.disconnect()
        await anyio.sleep(70)
        jetray.rooms.intake._survived.clear()
        jetray.bus.reconnect()
        if attempt == 2:
            await puppet.begun("a", 2)
    puppet.say("a", 1)
    assert isinstance(await jetray.end_of("puppet", "a"), Completed)
    first, second, third = unsure.asked
    assert second - first == pytest.approx(10, abs=1)
    assert third - second == pytest.approx(20, abs=1)
    assert names(await jetray.events("puppet", "a")) == ["started", "started", "started", "completed"]
    assert jetray.dead_letters() == []
    assert sum("comes again in 10 s: somebody killed it" in record.message for record in caplog.records) == 1


async def test_an_idle_gateway_drains_at_once(world: World) -> None:
    jetray = await world.gateway()
    began = anyio.current_time()
    await jetray.drain()
    assert anyio.current_time() - began < 1


async def test_a_batch_that_is_drained_goes_on_elsewhere_and_its_children_with_it(world: World) -> None:
    jetray = await world.gateway(settings=settings(gateway={"grace_s": 5}, providers={"offline": {"think_s": 20}}))
    await jetray.publish(APPROVED, plan("P1", "DEV", "QA"))
    await anyio.sleep(10)
    await jetray.drain()
    log = await jetray.events("plan", "P1")
    assert isinstance(log[-1], Retrying)
    assert (log[-1].spent.attempts, log[-1].spent.lost) == (0, 0)
    second = await world.gateway()
    result = await second.result_of("plan", "P1")
    assert {council.outcome for council in result.councils} == {"completed"}
    for role in ("DEV", "QA"):
        starts = [e for e in await second.events("deliberation", f"P1-{role}") if isinstance(e, Started)]
        assert [(e.attempt, e.spent.lost) for e in starts] == [(1, 0), (2, 0)]
