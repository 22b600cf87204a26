"""Batches that are cancelled: their children end first, whoever holds them."""

from __future__ import annotations

import anyio
import pytest

from contracts import subjects
from contracts.events import Asked, Cancelled, Completed, Failed, Progress, Started
from tests.runtime.kinds import Group, Puppet, grouping
from tests.runtime.world import ONE_SLOT, Hooks, Member, World, names
from workers import Child, Fail
from workers.runtime import conduct
from workers.runtime.cancel import Canceller, Subject
from workers.runtime.journal import Journal

pytestmark = pytest.mark.anyio

COMMAND = "control.cancel.group.g"
WORDS = {"reason": "superseded", "requested_by": "ops"}
ASKED = Asked(reason="superseded", requested_by="ops")


async def cancelled(jetray: Member, job_id: str = "g") -> Cancelled:
    end = await jetray.end_of("group", job_id)
    assert isinstance(end, Cancelled), end
    return end


def _outcomes(end: Cancelled) -> dict[str, int]:
    """How many children ended how, without where the cancel found those that it ended."""
    assert end.counts is not None
    return {name: count for name, count in end.counts.items() if not name.startswith("cancelled_")}


async def test_every_child_ends_before_its_batch(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, grouping(), settings=ONE_SLOT)
    puppet.say("g-done", 1)
    puppet.say("g-failed", Fail("no"))
    await jetray.submit("group", Group(id="g", members=["done", "failed", "running", "queued"]))
    await puppet.begun("g-running")
    await jetray.publish(COMMAND, WORDS)
    end = await cancelled(jetray)
    assert (end.reason, end.requested_by, end.stage, end.cancelling) == ("superseded", "ops", "running", True)
    assert end.counts == {
        "completed": 1,
        "failed": 1,
        "cancelled": 2,
        "refused": 0,
        "open": 0,
        "cancelled_running": 1,
        "cancelled_queued": 1,
    }
    asking = [event for event in await jetray.events("group", "g") if event.asked == ASKED]
    assert isinstance(asking[0], Progress)
    assert (asking[0].step, asking[0].message) == ("cancelling", "superseded")
    assert all(event.cancelling for event in (await jetray.events("group", "g"))[asking[0].n - 1 :])
    for job_id, log in (("g-running", ["started", "cancelled"]), ("g-queued", ["cancelled"])):
        found = await jetray.events("puppet", job_id)
        assert names(found) == log
        assert isinstance(found[-1], Cancelled)
        assert (found[-1].requested_by, found[-1].time <= end.time) == ("group.g", True)
        assert found[-1].reason == "its batch was cancelled: superseded"
    await puppet.ceased("g-running")
    assert ("g-queued", 1) not in puppet.attempts
    await anyio.sleep(60)
    assert world.kept(subjects.JOBS) == []


async def test_it_is_cancelled_once_however_often_it_is_asked_for(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, grouping())
    await jetray.submit("group", Group(id="g", members=["a"]))
    await puppet.begun("g-a")
    for _ in range(3):
        await jetray.publish(COMMAND, WORDS)
    await cancelled(jetray)
    await anyio.sleep(5)
    await jetray.publish(COMMAND, WORDS)
    await anyio.sleep(5)
    assert [type(event) for event in await jetray.events("group", "g")].count(Cancelled) == 1
    answers = [message.subject for message in world.kept(subjects.WORKERS, "workers.control.*.*")]
    assert answers == ["workers.control.done.gw-1"] * 4


async def test_one_that_has_not_begun_is_cancelled_like_a_job(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, grouping())
    await jetray.publish(COMMAND, WORDS)
    assert (await cancelled(jetray)).stage == "queued"
    await jetray.submit("group", Group(id="g", members=["a"]))
    await anyio.sleep(10)
    assert names(await jetray.events("group", "g")) == ["cancelled"]
    assert puppet.attempts == []


async def test_whoever_takes_it_over_ends_its_children(world: World) -> None:
    puppet = Puppet()
    first = await world.gateway(puppet.kind, grouping(), settings=ONE_SLOT)
    puppet.say("g-done", 1)
    await first.submit("group", Group(id="g", members=["done", "running", "queued"]))
    await puppet.begun("g-running")
    await first.crash()
    # Nobody holds it: its cancel is in the log alone.
    canceller = Canceller(Journal(world.client, nonce="op", source="op"), gateway="op", now=world.client.server_now)
    await canceller.cancel(Subject(kind="group", job_id="g", batch=True, origin="CONTROL:1"), ASKED)
    second = await world.gateway()
    end = await cancelled(second)
    assert (end.gateway, end.reason) == ("gw-2", "superseded")
    assert _outcomes(end) == {"completed": 1, "failed": 0, "cancelled": 2, "refused": 0, "open": 0}
    starts = [event for event in await second.events("group", "g") if isinstance(event, Started)]
    assert [(start.attempt, start.cancelling, start.spent.lost) for start in starts] == [(1, False, 0), (2, True, 0)]
    assert names(await second.events("puppet", "g-running"))[-1] == "cancelled"


class _StoppedAfter(Hooks):
    """A gateway of which nothing more is heard once it has ended so many children."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.stopped = anyio.Event()
        self._left = times
        self.on_after = self._count
        self.on_before = self._stop

    async def _count(self, op: str, subject: str) -> None:
        if (op, subject.rpartition(".")[0]) == ("publish", "orchestration.puppet.cancelled"):
            self._left -= 1
            if not self._left:
                self.stopped.set()

    async def _stop(self, op: str, subject: str) -> None:
        if self.stopped.is_set():
            await anyio.sleep_forever()


async def test_what_an_earlier_holder_ended_is_counted_where_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conduct, "ENDED_AT_ONCE", 1)
    puppet = Puppet()
    hooks = _StoppedAfter(2)
    first = await world.gateway(puppet.kind, grouping(), settings=ONE_SLOT, hooks=hooks)
    await first.submit("group", Group(id="g", members=list("abcde")))
    await puppet.begun("g-a")
    await first.publish(COMMAND, WORDS)
    await hooks.stopped.wait()
    await first.crash()
    second = await world.gateway(settings=ONE_SLOT)
    end = await cancelled(second)
    assert end.counts is not None
    assert _outcomes(end) == {"completed": 0, "failed": 0, "cancelled": 5, "refused": 0, "open": 0}
    ends = [(await second.events("puppet", f"g-{key}"))[-1] for key in "abcde"]
    running = sum(isinstance(end, Cancelled) and end.stage == "running" for end in ends)
    assert (end.counts["cancelled_running"], end.counts["cancelled_queued"]) == (running, 5 - running)
    assert 0 < running < 5


async def test_a_cancel_during_an_outage_is_learned_after_it(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, grouping())
    await jetray.submit("group", Group(id="g", members=["a"]))
    await puppet.begun("g-a")
    await anyio.sleep(2)
    jetray.bus.disconnect()
    canceller = Canceller(Journal(world.client, nonce="op", source="op"), gateway="op", now=world.client.server_now)
    await canceller.cancel(Subject(kind="group", job_id="g", batch=True, origin="CONTROL:1"), ASKED)
    await anyio.sleep(3)
    jetray.bus.reconnect()
    end = await cancelled(jetray)
    assert end.attempt == 1


async def test_a_result_that_is_not_durable_yet_gives_way(world: World) -> None:
    puppet = Puppet()
    hooks = Hooks()
    jetray = await world.gateway(puppet.kind, grouping(), hooks=hooks)
    canceller = Canceller(Journal(world.client, nonce="op", source="op"), gateway="op", now=world.client.server_now)

    async def cancel_first(op: str, subject: str) -> None:
        if (op, subject) == ("publish", "orchestration.group.completed.g"):
            await canceller.cancel(Subject(kind="group", job_id="g", batch=True, origin="CONTROL:1"), ASKED)

    hooks.on_before = cancel_first
    puppet.say("g-a", 1)
    await jetray.submit("group", Group(id="g", members=["a"]))
    end = await cancelled(jetray)
    assert _outcomes(end) == {"completed": 1, "failed": 0, "cancelled": 0, "refused": 0, "open": 0}
    assert isinstance(await jetray.end_of("puppet", "g-a"), Completed)


async def test_another_jobs_log_is_left_alone(world: World) -> None:
    """A job under a child's id runs already, for nobody's batch: the child waits for it, and its end is not ours."""
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, grouping(), settings=ONE_SLOT)
    await jetray.submit("puppet", {"id": "g-a"})
    await puppet.begun("g-a")
    await jetray.submit("group", Group(id="g", members=["a"]))
    await anyio.sleep(10)
    await jetray.publish(COMMAND, WORDS)
    end = await cancelled(jetray)
    assert _outcomes(end) == {"completed": 0, "failed": 0, "cancelled": 0, "refused": 1, "open": 0}
    reports = [event for event in await jetray.events("group", "g") if isinstance(event, Progress)]
    assert (reports[-1].done, reports[-1].total) == (1, 1)
    puppet.say("g-a", 5)
    assert await jetray.result_of("puppet", "g-a") == 5


async def test_a_batch_within_a_batch_ends_its_own_children_first(world: World) -> None:
    puppet = Puppet()
    outer = grouping(lambda group: [Child(key="in", kind="group", input=Group(id="g-in", members=["a"]))], name="outer")
    jetray = await world.gateway(puppet.kind, grouping(), outer)
    await jetray.submit("outer", Group(id="g"))
    await puppet.begun("g-in-a")
    await jetray.publish("control.cancel.outer.g", WORDS)
    end = await jetray.end_of("outer", "g")
    assert isinstance(end, Cancelled)
    assert _outcomes(end) == {"completed": 0, "failed": 0, "cancelled": 1, "refused": 0, "open": 0}
    inner = await jetray.end_of("group", "g-in")
    assert isinstance(inner, Cancelled)
    assert _outcomes(inner) == {"completed": 0, "failed": 0, "cancelled": 1, "refused": 0, "open": 0}
    assert names(await jetray.events("puppet", "g-in-a")) == ["started", "cancelled"]


async def test_one_that_is_drained_goes_on_elsewhere_where_it_was(world: World) -> None:
    puppet = Puppet()
    terms = ONE_SLOT
    hooks = Hooks()
    first = await world.gateway(puppet.kind, grouping(), settings=terms, hooks=hooks)
    await first.submit("group", Group(id="g", members=["a", "b"]))
    await puppet.begun("g-a")

    async def hold(op: str, subject: str) -> None:
        if op == "publish" and subject == "orchestration.puppet.cancelled.g-b":
            await anyio.sleep(50)

    hooks.on_before = hold
    await first.publish(COMMAND, WORDS)
    await anyio.sleep(1)
    second = await world.gateway()
    await first.drain()
    end = await cancelled(second)
    assert (end.gateway, end.counts and end.counts["cancelled"]) == ("gw-2", 2)
    log = await second.events("group", "g")
    assert names(log)[-3:] == ["retrying", "started", "cancelled"] or "retrying" in names(log)
    assert not any(isinstance(event, Failed) for event in log)
