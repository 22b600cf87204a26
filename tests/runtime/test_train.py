"""Short jobs that travel together, and whoever is not like the others."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from contracts import headers as h
from contracts import subjects
from contracts.control import CancelRequest
from contracts.events import Cancelled, Completed, Event, Failed, Retrying, Spent, Started
from tests.runtime.kinds import Group, Task, grouping
from tests.runtime.trains import Errand, Spy, boarding, ids, room_for, together
from tests.runtime.world import ONE_SLOT, Hooks, Member, World, names, settings
from workers import Child, Fail, Retry

pytestmark = pytest.mark.anyio

GOOD = ["started", "completed"]
RERUN = ["started", "retrying", "started", "completed"]


async def _ends(member: Member, *job_ids: str) -> list[Event]:
    return [await member.end_of("errand", job_id) for job_id in job_ids]


async def _names(member: Member, job_id: str) -> list[str]:
    return names(await member.events("errand", job_id))


async def _all_good(member: Member, *job_ids: str) -> None:
    await _ends(member, *job_ids)
    for job_id in job_ids:
        assert await _names(member, job_id) == GOOD, job_id


@pytest.mark.parametrize("sync", [False, True])
async def test_a_backlog_travels_together(world: World, monkeypatch: pytest.MonkeyPatch, sync: bool) -> None:
    errand = Errand(sync=sync)
    jetray = await world.gateway(errand.kind, settings=ONE_SLOT)
    spy = Spy(jetray, monkeypatch)
    await together(jetray, *ids(20))
    await _all_good(jetray, *ids(20))
    assert spy.called == [ids(20)]
    assert spy.written == [[f"started.{job_id}" for job_id in ids(20)], [f"completed.{job_id}" for job_id in ids(20)]]
    assert spy.acknowledged == [20]
    assert (spy.alone, errand.begun) == ([], ids(20))
    assert world.kept(subjects.JOBS) == []


@pytest.mark.parametrize("sync", [False, True])
async def test_calls_grow_by_themselves_while_there_is_a_backlog(
    world: World, monkeypatch: pytest.MonkeyPatch, sync: bool
) -> None:
    errand = Errand(sync=sync)
    jetray = await world.gateway(errand.kind)
    spy = Spy(jetray, monkeypatch)
    world.server.pause(subjects.JOBS, "errand", 10)
    for job_id in ids(300):
        await jetray.submit("errand", {"id": job_id})
    await _all_good(jetray, *ids(300))
    assert sorted(errand.begun) == sorted(ids(300)), "each once"
    assert len(spy.called) + len(spy.alone) <= 30
    assert max(map(len, spy.called)) >= 64


async def test_one_job_alone_leaves_at_once_and_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    errand = Errand()
    jetray = await world.gateway(errand.kind)
    jetray.gateway._platforms["errand"]._learn("", 1, 0.0)
    spy = Spy(jetray, monkeypatch)
    await jetray.submit("errand", {"id": "a"})
    began = anyio.current_time()
    end = await jetray.end_of("errand", "a")
    assert anyio.current_time() == began, "it waits for nobody"
    assert isinstance(end, Completed)
    assert (spy.alone, spy.called, spy.written) == (["a"], [], [])


async def test_no_call_has_more_jobs_than_an_actor_may_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    errand = Errand()
    profile = {"actors": 1, "concurrency": 1, "recycle_jobs": 5}
    jetray = await world.gateway(errand.kind, settings=settings(profiles={"default": profile}))
    spy = Spy(jetray, monkeypatch)
    await together(jetray, *ids(12))
    await _all_good(jetray, *ids(12))
    assert max(map(len, spy.called)) == 5


# --- whose `started` is refused


async def test_a_duplicate_gets_off_and_the_others_go_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    errand = Errand()
    jetray = await world.gateway(errand.kind, settings=ONE_SLOT)
    spy = Spy(jetray, monkeypatch)
    await together(jetray, "a", "b", "a", "c", "b")
    await _all_good(jetray, "a", "b", "c")
    await world.settled(lambda: world.kept(subjects.JOBS) == [], within_s=30)
    assert [sorted(jobs) for jobs in spy.called] == [["a", "b", "c"]]
    assert sorted(errand.begun) == ["a", "b", "c"]


async def test_an_id_whose_job_is_over_or_another_gets_off_and_the_others_go_on(world: World) -> None:
    errand = Errand()
    jetray = await world.gateway(errand.kind, settings=ONE_SLOT)
    await together(jetray, {"id": "over"}, {"id": "other"})
    await _all_good(jetray, "over", "other")
    await together(jetray, {"id": "over"}, "a", {"id": "other", "value": 7}, "b")
    await _all_good(jetray, "over", "other", "a", "b")
    await world.settled(lambda: world.kept(subjects.JOBS) == [], within_s=5)
    [letter] = jetray.dead_letters()
    assert (letter.job_id, letter.reason) == ("other", "id_conflict")
    await world.settled(lambda: len(world.kept(subjects.WORKERS, "workers.intake.refused.>")) == 1, within_s=5)
    assert sorted(errand.begun) == ["a", "b", "other", "over"]


async def test_two_gateways_with_duplicates_run_each_job_once(world: World) -> None:
    errand = Errand()
    first = await world.gateway(errand.kind)
    second = await world.gateway()
    for member in (first, second):
        room_for(member, 8)
    for job_id in ids(30):
        await first.submit("errand", {"id": job_id})
        await first.submit("errand", {"id": job_id}, high=True)
    await _ends(first, *ids(30))
    await world.settled(lambda: world.kept(subjects.JOBS) == [], within_s=200)
    for job_id in ids(30):
        assert await _names(first, job_id) == GOOD
    assert sorted(errand.begun) == sorted(ids(30))
    begun = [(await first.events("errand", job_id))[0].gateway for job_id in ids(30)]
    assert {*begun} == {"gw-1", "gw-2"}, "both had some"


# --- whose outcome is no result


@pytest.mark.parametrize("sync", [False, True])
async def test_errors_in_the_middle_are_each_their_own(world: World, sync: bool) -> None:
    errand = Errand(sync=sync, retry_base=60.0)
    jetray = await world.gateway(errand.kind, settings=ONE_SLOT)
    errand.say("raises", ValueError("no"))
    errand.say("retries", Retry("later", after=30))
    errand.say("fails", Fail("never", reason="config"))
    errand.say("bad", {1j})
    errand.say("large", "x" * 300_000)
    others = ids(4)
    began = anyio.current_time()
    await together(jetray, others[0], "raises", "retries", others[1], "fails", "bad", others[2], "large", others[3])
    await _all_good(jetray, *others, "large")
    assert anyio.current_time() < began + 11
    assert await jetray.result_of("errand", "large") == "x" * 300_000
    for job_id, reason, type_ in (("fails", "config", "Fail"), ("bad", "user", "BadResult")):
        end = await jetray.end_of("errand", job_id)
        assert isinstance(end, Failed)
        assert (end.error.reason, end.error.type, end.attempts) == (reason, type_, 1)
        assert await _names(jetray, job_id) == ["started", "failed"]
    errand.say("raises", 1)
    errand.say("retries", 2)
    await _ends(jetray, "raises", "retries")
    for job_id, delay_ms in (("raises", 30_000), ("retries", 30_000)):
        log = await jetray.events("errand", job_id)
        assert names(log) == RERUN
        assert isinstance(log[1], Retrying)
        assert (log[1].delay_ms, log[1].spent) == (delay_ms, Spent(attempts=1))
    assert {letter.job_id for letter in jetray.dead_letters()} == {"fails", "bad"}


async def test_what_does_not_decode_is_a_dead_letter_on_first_sight(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    errand = Errand()
    jetray = await world.gateway(errand.kind, settings=ONE_SLOT)
    spy = Spy(jetray, monkeypatch)
    await together(jetray, "a", b"{", "b", b'{"id": 7}', "c")
    await _all_good(jetray, "a", "b", "c")
    assert spy.called == [["a", "b", "c"]]
    assert [letter.attempts for letter in jetray.dead_letters()] == [0, 0]
    assert {letter.reason for letter in jetray.dead_letters()} == {"decode"}


@pytest.mark.parametrize("parent", ["the log's", "the message's"])
async def test_a_child_tells_its_batch(world: World, monkeypatch: pytest.MonkeyPatch, parent: str) -> None:
    def expand(group: Group) -> list[Child]:
        return [Child(key=key, kind="errand", input=Task(id=f"{group.id}-{key}")) for key in group.members]

    errand = Errand()
    errand.say("g-c", Fail("no"))
    jetray = await world.gateway(errand.kind, grouping(expand), settings=ONE_SLOT)
    spy = Spy(jetray, monkeypatch)
    async with boarding(jetray):
        await jetray.submit("errand", {"id": "stranger"})
        await jetray.submit("group", Group(id="g", members=["a", "b", "c"]))
        if parent == "the message's":
            # It begins the log without naming the batch.
            await jetray.submit("errand", {"id": "g-a"}, headers={h.DEADLINE: "500"})
    result = await jetray.result_of("group", "g")
    assert [outcome for _, outcome, _ in result] == ["completed", "completed", "failed"]
    await _all_good(jetray, "stranger", "g-a", "g-b")
    assert [len(jobs) for jobs in spy.called] >= [2]


# --- cancels


def _cancel(jetray: Member, job_id: str) -> Any:
    return jetray.publish(f"control.cancel.errand.{job_id}", CancelRequest(reason="no longer wanted"))


async def test_one_that_is_cancelled_in_the_queue_never_runs(world: World) -> None:
    errand = Errand()
    jetray = await world.gateway(errand.kind, settings=ONE_SLOT)
    await _cancel(jetray, "b")
    await together(jetray, "a", "b", "c")
    await _all_good(jetray, "a", "c")
    assert errand.begun == ["a", "c"]
    end = await jetray.end_of("errand", "b")
    assert isinstance(end, Cancelled)
    assert end.stage == "queued"


async def test_one_that_is_cancelled_while_the_call_runs(world: World) -> None:
    errand = Errand()
    errand.say("a", lambda: anyio.sleep(5))
    jetray = await world.gateway(errand.kind, settings=ONE_SLOT)
    await together(jetray, "a", "b", "c")
    await anyio.sleep(1)
    await _cancel(jetray, "b")
    await _all_good(jetray, "a", "c")
    assert await _names(jetray, "b") == ["started", "cancelled"]
    assert errand.begun.count("a") == 1, "there was time for the call to end by itself"


async def test_one_that_is_cancelled_and_does_not_end_takes_the_others_along_for_nothing(world: World) -> None:
    errand = Errand()
    errand.say("b", anyio.sleep_forever)
    jetray = await world.gateway(errand.kind, settings=ONE_SLOT)
    await together(jetray, "a", "b", "c")
    await anyio.sleep(1)
    began = anyio.current_time()
    await _cancel(jetray, "b")
    for job_id in ("a", "c"):
        end = await jetray.end_of("errand", job_id)
        assert isinstance(end, Completed)
        log = await jetray.events("errand", job_id)
        assert names(log) == RERUN
        assert isinstance(log[2], Started)
        assert log[2].spent == Spent()
    assert anyio.current_time() - began == pytest.approx(jetray.settings.gateway.grace_s, abs=1)
    assert await _names(jetray, "b") == ["started", "cancelled"]


@pytest.mark.parametrize("word", ["started", "completed"])
@pytest.mark.parametrize("way", ["before", "after"])
async def test_one_that_is_cancelled_while_an_event_of_its_is_being_appended(
    world: World, word: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks, errand = Hooks(), Errand()
    jetray = await world.gateway(errand.kind, settings=ONE_SLOT, hooks=hooks)

    async def cancel_it(op: str, subject: str) -> None:
        if (op, subject) == ("publish", f"orchestration.errand.{word}.b"):
            setattr(hooks, f"on_{way}", getattr(Hooks(), f"on_{way}"))
            await _cancel(jetray, "b")
            await anyio.sleep(1)

    setattr(hooks, f"on_{way}", cancel_it)
    spy = Spy(jetray, monkeypatch)
    await together(jetray, "a", "b", "c")
    await _all_good(jetray, "a", "c")
    end = await jetray.end_of("errand", "b")
    await world.settled(lambda: world.kept(subjects.JOBS) == [], within_s=5)
    match word, way:
        case "started", "before":
            assert await _names(jetray, "b") == ["cancelled"]
        case "completed", "after":
            assert await _names(jetray, "b") == GOOD
        case _:
            assert await _names(jetray, "b") == ["started", "cancelled"]
    assert (end.run, world.kept(subjects.DLQ)) == (1, [])
    assert ("b" in errand.begun) is (word == "completed")
    assert spy.called == [["a", "b", "c"] if word == "completed" else ["a", "c"]]
