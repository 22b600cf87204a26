"""Dead letters that run again, through crashes at awkward moments; and commands that are refused."""

from __future__ import annotations

from typing import Any

import anyio
import msgspec
import pytest
from msgspec import Struct

from contracts import subjects
from contracts.events import Completed, Failed, Requeued
from tests.runtime.kinds import Group, Puppet, grouping
from tests.runtime.world import APPROVED, Hooks, Member, World, names, settings
from workers import Fail, JobContext, job

pytestmark = pytest.mark.anyio


class Strict(Struct, forbid_unknown_fields=True):
    """Forgives a domain event nothing that it need not."""

    id: str


@job("strict", id_field="id")
async def strict(ctx: JobContext, task: Strict) -> Fail | None:
    return Fail("never")


async def failed(jetray: Member, job_id: str = "a", kind: str = "puppet", run: int = 1) -> Failed:
    end = await jetray.end_of(kind, job_id, run=run)
    assert isinstance(end, Failed), end
    return end


async def answers(world: World, count: int) -> list[dict[str, Any]]:
    """What `workers.control.*` said, once there are so many answers."""

    def found() -> list[dict[str, Any]]:
        kept = world.kept(subjects.WORKERS, "workers.control.*.*")
        return [msgspec.json.decode(message.body) for message in kept]

    await world.settled(lambda: len(found()) >= count)
    return found()


async def test_it_runs_again_within_the_time_in_which_its_first_message_is_remembered(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind)
    puppet.say("a", Fail("no"))
    await jetray.submit("puppet", {"id": "a"}, headers={"Nats-Msg-Id": "puppet.a.1", "x-theirs": "kept"})
    end = await failed(jetray)
    puppet.say("a", 1)
    await jetray.publish(f"control.replay.{end.dlq_sequence}", b"")
    assert await jetray.result_of("puppet", "a", run=2) == 1
    log = await jetray.events("puppet", "a")
    assert names(log) == ["started", "failed", "requeued", "started", "completed"]
    assert [event.attempt for event in log] == [1, 1, 1, 1, 1]
    again = await jetray.publish(f"control.replay.{end.dlq_sequence}", b"")
    assert [(told["event"], told["sequence"]) for told in await answers(world, 2)][-1] == ("control.done", again)
    assert names(await jetray.events("puppet", "a")).count("requeued") == 1


@pytest.mark.parametrize(
    "at", ["orchestration.puppet.requeued.a", "jobs.puppet", "workers.control.done.gw-1"], ids=lambda at: str(at)
)
@pytest.mark.parametrize("side", ["before", "after"])
async def test_a_crash_at_any_step_of_a_replay_loses_and_doubles_nothing(world: World, at: str, side: str) -> None:
    puppet, hooks = Puppet(), Hooks()
    first = await world.gateway(puppet.kind, hooks=hooks)
    puppet.say("a", Fail("no"))
    await first.submit("puppet", {"id": "a"})
    end = await failed(first)
    puppet.say("a", 1)
    gone = anyio.Event()

    async def crash(op: str, subject: str) -> None:
        if (op, subject) == ("publish", at):
            gone.set()
            await anyio.sleep_forever()

    setattr(hooks, f"on_{side}", crash)
    await world.client.publish(f"control.replay.{end.dlq_sequence}", b"")
    await gone.wait()
    await first.crash()
    second = await world.gateway()
    assert await second.result_of("puppet", "a", run=2) == 1
    told = await answers(world, 1)
    assert [answer["event"] for answer in told] == ["control.done"]
    log = await second.events("puppet", "a")
    assert [event.run for event in log if isinstance(event, (Requeued, Completed))] == [2, 2]


async def test_a_replay_under_way_goes_on_though_its_batch_has_opened_meanwhile(world: World) -> None:
    """Its `requeued` is in the log, and only the command can publish the message of that run."""
    puppet, hooks = Puppet(), Hooks()
    terms = settings(gateway={"ack_wait_s": 6})
    first = await world.gateway(puppet.kind, grouping(), hooks=hooks, settings=terms)
    puppet.say("g-a", Fail("no"))
    await first.submit("puppet", {"id": "g-a"}, headers={"Jetray-Parent": "group.g", "Jetray-Job-Id": "g-a"})
    end = await failed(first, "g-a")
    puppet.say("g-a", 1)
    gone = anyio.Event()

    async def crash(op: str, subject: str) -> None:
        if (op, subject) == ("publish", "jobs.puppet"):
            gone.set()
            await anyio.sleep_forever()

    hooks.on_before = crash
    await world.client.publish(f"control.replay.{end.dlq_sequence}", b"")
    await gone.wait()
    await first.crash()
    second = await world.gateway()
    await second.submit("group", Group(id="g", members=["a", "b"]))
    assert await second.result_of("puppet", "g-a", run=2, within_s=60) == 1
    puppet.say("g-b", 2)
    await second.end_of("group", "g")


async def test_a_child_of_an_open_batch_is_refused(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, grouping())
    puppet.say("g-a", Fail("no"))
    await jetray.submit("group", Group(id="g", members=["a", "b"]))
    end = await failed(jetray, "g-a")
    await jetray.publish(f"control.replay.{end.dlq_sequence}", b"")
    [told] = await answers(world, 1)
    assert (told["event"], "still open" in told["reason"]) == ("control.refused", True)
    puppet.say("g-b", 1)
    await jetray.end_of("group", "g")
    puppet.say("g-a", 2)
    await jetray.publish(f"control.replay.{end.dlq_sequence}", b"")
    assert await jetray.result_of("puppet", "g-a", run=2) == 2


async def test_a_domain_event_may_fail_and_run_again_and_again(world: World) -> None:
    """It is foreign in every run: fields that its kind does not know are none of a publisher's mistakes."""
    terms = settings(routes=[{"subject": APPROVED, "kind": "strict"}])
    jetray = await world.gateway(strict, settings=terms)
    await jetray.publish(APPROVED, {"id": "a", "unheard_of": 1})
    letter = (await failed(jetray, "a", "strict")).dlq_sequence
    for run in (2, 3):
        await jetray.publish(f"control.replay.{letter}", b"")
        end = await failed(jetray, "a", "strict", run)
        assert (end.run, end.error.reason) == (run, "user")
        letter = end.dlq_sequence


async def test_what_is_no_longer_kept_cannot_be_replayed(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind)
    puppet.say("a", Fail("no"))
    # With the headers of a dead letter the message is over what the server takes.
    headers = {f"x-{number}": "x" * 4_000 for number in range(10)}
    value = {"id": "a", "padding": "x" * (world.server.max_payload - 40_150)}
    await jetray.submit("puppet", value, headers=headers)
    end = await failed(jetray)
    jetray.store.kept.clear()
    await jetray.publish(f"control.replay.{end.dlq_sequence}", b"")
    [told] = await answers(world, 1)
    assert (told["event"], "no longer kept" in told["reason"]) == ("control.refused", True)
    assert names(await jetray.events("puppet", "a")) == ["started", "failed"]
