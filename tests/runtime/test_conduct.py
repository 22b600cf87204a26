"""Batches: children out, notices in, and whatever ends a batch ends its children first."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import anyio
import pytest

from contracts import headers as h
from contracts import joins, subjects
from contracts.events import Failed, Progress
from contracts.joins import Notice
from tests.runtime.kinds import Group, Puppet, Task, grouping
from tests.runtime.world import APPROVED, ONE_SLOT, World, plan, settings
from workers import Child, Fail
from workers.core.tally import child_id

pytestmark = pytest.mark.anyio


async def test_children_know_their_batch_and_their_place(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, grouping(), settings=settings(profiles={"default": {"concurrency": 4}}))
    await jetray.submit("group", Group(id="g", members=["a", "b-c"]), headers={"traceparent": TRACE})
    for member in ("g-a", child_id("g", "b-c")):
        await puppet.begun(member.replace("g-", "g-") if member == "g-a" else "g-b-c")
    sent = {message.headers[h.JOB_ID]: message.headers for message in world.kept(subjects.JOBS, "jobs.puppet")}
    assert {job_id: (headers[h.PARENT], headers[h.INDEX], headers[h.MSG_ID]) for job_id, headers in sent.items()} == {
        "g-a": ("group.g", "0", "puppet.g-a.1"),
        child_id("g", "b-c"): ("group.g", "1", f"puppet.{child_id('g', 'b-c')}.1"),
    }
    assert {headers[h.TRACEPARENT] for headers in sent.values()} == {TRACE}
    puppet.say("g-a", 1)
    puppet.say("g-b-c", 2)
    assert [outcome for _, outcome, _ in await jetray.result_of("group", "g")] == ["completed", "completed"]


async def test_a_batch_holds_no_slot(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, grouping(), settings=ONE_SLOT)
    for number in range(5):
        await jetray.submit("group", Group(id=f"g{number}", members=["a"]))
        puppet.say(f"g{number}-a", number)
    for number in range(5):
        assert await jetray.result_of("group", f"g{number}") == [[f"g{number}-a", "completed", number]]
    assert puppet.most == 1


async def test_at_most_so_many_batches_are_open_as_the_settings_say(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, grouping(), settings=settings(gateway={"open_batches": 2}))
    for number in range(6):
        await jetray.submit("group", Group(id=f"g{number}", members=["a"]))
    await anyio.sleep(10)
    assert (await world.state("group")).unacknowledged == 2
    for number in range(6):
        puppet.say(f"g{number}-a", number)
    for number in range(6):
        await jetray.end_of("group", f"g{number}")


async def test_a_batch_reports_at_most_twice_a_second_and_its_last_report_is_whole(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, grouping(), settings=settings(profiles={"default": {"concurrency": 100}}))
    members = [f"m{number}" for number in range(50)]
    await jetray.submit("group", Group(id="g", members=members))
    for member in members:
        await puppet.begun(f"g-{member}")
        puppet.say(f"g-{member}", 1)
        await anyio.sleep(0.1)
    await jetray.end_of("group", "g")
    progress = [event for event in await jetray.events("group", "g") if isinstance(event, Progress)]
    assert 8 <= len(progress) <= 13, "5 s"
    gaps = [(b.time - a.time).total_seconds() for a, b in pairwise(progress[:-1])]
    assert min(gaps) >= 0.499
    assert (progress[-1].done, progress[-1].total) == (50, 50)
    ended = {"completed": 50, "failed": 0, "cancelled": 0, "refused": 0, "open": 0, "in_progress": 0}
    assert progress[-1].counts == ended


# --- how children end


async def test_children_that_fail_are_told_with_their_reasons(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, grouping())
    puppet.say("g-a", 1)
    puppet.say("g-b", Fail("no"))
    await jetray.submit("group", Group(id="g", members=["a", "b"]))
    assert await jetray.result_of("group", "g") == [["g-a", "completed", 1], ["g-b", "failed", "user"]]


async def test_a_plan_fails_only_if_every_council_failed(world: World) -> None:
    terms = settings(
        providers={"offline": {"think_s": 10}},
        council={"call_timeout_s": 1},
        councils={"DEV": {"call_timeout_s": 60}},
        profiles={"default": {"concurrency": 8}},
    )
    jetray = await world.gateway(settings=terms)
    await jetray.publish(APPROVED, plan("P1", "DEV", "QA"))
    await jetray.publish(APPROVED, plan("P2", "OPS", "QA"))
    result = await jetray.result_of("plan", "P1")
    assert [(council.role, council.outcome, council.score is None) for council in result.councils] == [
        ("DEV", "completed", False),
        ("QA", "failed", True),
    ]
    assert result.councils[1].error.reason == "quorum"
    end = await jetray.end_of("plan", "P2")
    assert isinstance(end, Failed)
    assert end.error.reason == "dependency"
    assert {"plan.P2", "deliberation.P2-OPS", "deliberation.P2-QA", "deliberation.P1-QA"} == {
        f"{letter.kind}.{letter.job_id}" for letter in jetray.dead_letters()
    }


async def test_a_child_that_is_refused_for_its_id_is_told_to_the_batch(world: World) -> None:
    jetray = await world.gateway()
    other = {"task_id": "P1-DEV", "task_description": "something else", "role": "DEV"}
    await jetray.submit("deliberation", other)
    await jetray.end_of("deliberation", "P1-DEV")
    before = await jetray.events("deliberation", "P1-DEV")
    await jetray.publish(APPROVED, plan("P1", "DEV", "QA"))
    result = await jetray.result_of("plan", "P1")
    dev, qa = result.councils
    assert (dev.outcome, dev.error.reason, qa.outcome) == ("refused", "id_conflict", "completed")
    assert await jetray.events("deliberation", "P1-DEV") == before
    assert [letter.reason for letter in jetray.dead_letters()] == ["id_conflict"]


async def test_a_child_that_does_not_decode_is_told_to_the_batch(world: World) -> None:
    puppet = Puppet()

    def expand(group: Group) -> Sequence[Child]:
        return [Child(key="a", kind="puppet", input={"colour": "red"})]

    jetray = await world.gateway(puppet.kind, grouping(expand))
    await jetray.submit("group", Group(id="g"))
    assert await jetray.result_of("group", "g") == [["g-a", "failed", "decode"]]
    assert [(letter.job_id, letter.reason) for letter in jetray.dead_letters()] == [("g-a", "decode")]


async def test_a_job_that_was_there_before_the_batch_counts_as_its_child(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, grouping())
    puppet.say("g-a", 1)
    await jetray.submit("puppet", Task(id="g-a"))
    await jetray.result_of("puppet", "g-a")
    await jetray.submit("puppet", Task(id="g-b"))
    await puppet.begun("g-b")
    await jetray.submit("group", Group(id="g", members=["a", "b"]))
    await anyio.sleep(20)
    puppet.say("g-b", 2)
    assert await jetray.result_of("group", "g") == [["g-a", "completed", 1], ["g-b", "completed", 2]]
    assert puppet.attempts == [("g-a", 1), ("g-b", 1)]


# --- a queue that is full


async def test_expansion_waits_while_the_childrens_queue_is_full(world: World) -> None:
    puppet = Puppet()
    terms = settings(streams={"jobs_per_kind": 3}, profiles={"default": {"concurrency": 1, "actors": 1}})
    jetray = await world.gateway(puppet.kind, grouping(), settings=terms)
    members = [f"m{number}" for number in range(10)]
    await jetray.submit("group", Group(id="g", members=members))
    await puppet.begun("g-m0")
    await anyio.sleep(60)
    assert len(world.kept(subjects.JOBS, "jobs.puppet")) == 3
    for member in members:
        puppet.say(f"g-{member}", 1)
    assert len(await jetray.result_of("group", "g")) == 10


# --- notices that are none of ours


@pytest.mark.parametrize(
    "body",
    [
        b"nonsense",
        joins.encode(Notice(child="puppet.g-z", index=0, outcome="completed", run=1, sequence=1)),
        joins.encode(Notice(child="nonsense", index=0, outcome="refused", run=1, sequence=1)),
        joins.encode(Notice(child="a b.c d", index=0, outcome="refused", run=1, sequence=1)),
        joins.encode(Notice(child="puppet.g-a", index=7, outcome="refused", run=1, sequence=1)),
    ],
    ids=["nonsense", "a stranger", "no name", "no tokens", "a child that lives"],
)
async def test_a_notice_that_tells_nothing_is_ignored(world: World, body: bytes) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, grouping())
    await jetray.submit("group", Group(id="g", members=["a"]))
    await puppet.begun("g-a")
    await world.client.publish("joins.group.g", body)
    await anyio.sleep(10)
    puppet.say("g-a", 1)
    assert await jetray.result_of("group", "g") == [["g-a", "completed", 1]]


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
