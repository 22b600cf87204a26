"""Batches: children out, notices in, and whatever ends a batch ends its children first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import anyio
import msgspec
import pytest

from contracts import headers as h
from contracts import joins, subjects
from contracts.events import Cancelled, Completed, Failed, Progress, Spent, Started
from contracts.joins import Notice
from tests.runtime.kinds import Group, Puppet, Task, grouping
from tests.runtime.world import APPROVED, ONE_SLOT, World, names, plan, settings
from workers import Child, ChildEnd, Fail
from workers.core.tally import child_id
from workers.kinds.deliberation.config import OfflineSettings, Providers

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
    assert progress[-1].counts == {"completed": 50, "failed": 0, "cancelled": 0, "refused": 0, "open": 0}


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


# --- expand and reduce that go wrong


def _raises(group: Group) -> Sequence[Child]:
    raise LookupError("no such variant")


class _NoJson:
    pass


@pytest.mark.parametrize(
    ("expand", "reason", "words"),
    [
        (_raises, "user", "no such variant"),
        (lambda group: [], "user", "no children"),
        (lambda group: None, "user", "not iterable"),
        (lambda group: ["a"], "user", "Child"),
        (lambda group: [Child(key=1, kind="puppet", input=None)], "user", "text key"),  # type: ignore[arg-type]
        (lambda group: [Child(key="a", kind="no.token", input=None)], "user", "token"),
        (lambda group: [_child("a"), _child("b"), _child("a")], "user", "'a' more than once"),
        (lambda group: [_child("a"), Child(key="b", kind="puppet", input=_NoJson())], "user", "child b"),
        (lambda group: [_child("a"), Child(key="b", kind="nobody-has", input=None)], "unknown_kind", "nobody-has"),
        (lambda group: [_child("a"), Child(key="b", kind="puppet", input="x" * 2_000_000)], "too_large", "child b"),
    ],
    ids=["raises", "empty", "nothing", "no child", "number", "no token", "twice", "no JSON", "no kind", "too large"],
)
async def test_an_expansion_that_cannot_be_carried_out_fails_and_leaves_no_child_behind(
    world: World, expand: Callable[[Group], Any], reason: str, words: str
) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, grouping(expand))
    await jetray.submit("group", Group(id="g"))
    end = await jetray.end_of("group", "g")
    assert isinstance(end, Failed)
    assert (end.error.reason, end.attempts) == (reason, 1)
    assert words in end.error.message
    assert [letter.reason for letter in jetray.dead_letters()] == [reason]
    await anyio.sleep(60)
    for child in ("g-a", "g-b"):
        for event in (await jetray.events("puppet", child))[-1:]:
            assert isinstance(event, Cancelled)


@pytest.mark.parametrize(
    ("reduce", "reason", "words"),
    [
        (lambda group, ends: Fail("too few", reason="dependency"), "dependency", "too few"),
        (lambda group, ends: _raise(Fail("none at all")), "user", "none at all"),
        (lambda group, ends: _raise(ZeroDivisionError("by zero")), "user", "by zero"),
        (lambda group, ends: _NoJson(), "user", "_NoJson"),
    ],
    ids=["fails", "raises Fail", "raises", "no JSON"],
)
async def test_a_reduction_that_goes_wrong_fails_the_batch(
    world: World, reduce: Callable[[Group, Sequence[ChildEnd]], Any], reason: str, words: str
) -> None:
    puppet = Puppet()
    puppet.say("g-a", 1)
    jetray = await world.gateway(puppet.kind, grouping(reduce=reduce))
    await jetray.submit("group", Group(id="g", members=["a"]))
    end = await jetray.end_of("group", "g")
    assert isinstance(end, Failed)
    assert end.error.reason == reason
    assert words in end.error.message


async def test_a_large_result_of_a_batch_becomes_an_artifact(world: World) -> None:
    puppet = Puppet()
    puppet.say("g-a", 1)
    jetray = await world.gateway(puppet.kind, grouping(reduce=lambda group, ends: "x" * 300_000))
    await jetray.submit("group", Group(id="g", members=["a"]))
    assert await jetray.result_of("group", "g") == "x" * 300_000
    end = await jetray.end_of("group", "g")
    assert isinstance(end, Completed)
    assert len(bytes(end.result)) < 1_000


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


# --- deadlines, and gateways that come and go


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


def _child(key: str) -> Child:
    return Child(key=key, kind="puppet", input=Task(id=f"g-{key}"))


def _raise(error: Exception) -> Any:
    raise error


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
