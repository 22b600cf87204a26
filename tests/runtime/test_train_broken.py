"""What befalls short jobs that travel together: deaths, deadlines, lost leases."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest

from contracts import subjects
from contracts.events import Event, Failed, Retrying, Spent, Started
from tests.runtime.trains import Errand, Spy, boarding, together
from tests.runtime.world import ONE_SLOT, Hooks, Member, World, names, settings

pytestmark = pytest.mark.anyio

GOOD = ["started", "completed"]
RERUN = ["started", "retrying", "started", "completed"]


async def _log(member: Member, job_id: str) -> list[Event]:
    await member.end_of("errand", job_id)
    return await member.events("errand", job_id)


async def _for_nothing(member: Member, *job_ids: str) -> None:
    """Each ran again by itself, and it cost nothing."""
    for job_id in job_ids:
        log = await _log(member, job_id)
        assert names(log) == RERUN, job_id
        assert isinstance(log[1], Retrying)
        assert (log[1].error.type, log[1].delay_ms) == ("TakenApart", 0)
        assert [event.spent for event in log if isinstance(event, Started)] == [Spent(), Spent()]


def _dies(member: Member) -> Callable[[], Awaitable[None]]:
    async def die() -> None:
        for actor in [*member.pool._actors.living]:
            member.pool.kill(actor)
        await anyio.sleep(1)

    return die


# --- deaths


async def test_of_a_call_that_dies_only_the_guilty_job_pays(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    errand = Errand(max_lost=2)
    jetray = await world.gateway(errand.kind, settings=ONE_SLOT)
    spy = Spy(jetray, monkeypatch)
    errand.say("guilty", _dies(jetray))
    await together(jetray, "a", "b", "guilty", "c")
    await _for_nothing(jetray, "a", "b", "c")
    end = await jetray.end_of("errand", "guilty")
    assert isinstance(end, Failed)
    assert (end.error.reason, end.attempts) == ("lost", 4), "once among the others, and max_lost times and once alone"
    log = await jetray.events("errand", "guilty")
    assert [event.spent.lost for event in log if isinstance(event, Started)] == [0, 0, 1, 2]
    [letter] = jetray.dead_letters()
    assert (letter.job_id, letter.reason) == ("guilty", "lost")
    assert spy.called == [["a", "b", "guilty", "c"]]
    assert sorted(spy.alone) == ["a", "b", "c", "guilty", "guilty", "guilty"]


async def test_after_a_call_that_died_the_next_begin_small_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    errand = Errand(max_lost=0)
    jetray = await world.gateway(errand.kind, settings=ONE_SLOT)
    errand.say("guilty", _dies(jetray))
    await together(jetray, "a", "guilty")
    assert jetray.gateway._platforms["errand"].limit == 64
    await _for_nothing(jetray, "a")
    await jetray.end_of("errand", "guilty")
    assert jetray.gateway._platforms["errand"].limit <= 4


async def test_an_actor_that_is_dead_before_the_call_costs_nobody_anything(world: World) -> None:
    hooks, errand = Hooks(), Errand()
    jetray = await world.gateway(errand.kind, settings=ONE_SLOT, hooks=hooks)

    async def kill(op: str, subject: str) -> None:
        if (op, subject) == ("publish", "orchestration.errand.started.b"):
            hooks.on_after = Hooks().on_after
            await _dies(jetray)()

    hooks.on_after = kill
    await together(jetray, "a", "b", "c")
    await _for_nothing(jetray, "a", "b", "c")


async def test_a_job_whose_host_breaks_over_it_pays_for_itself_alone(world: World) -> None:
    errand = Errand(retry_base=0.01)

    def leaves() -> None:
        raise SystemExit(3)

    errand.say("b", leaves)
    jetray = await world.gateway(errand.kind, settings=settings(profiles=ONE_SLOT_PROFILES, retry={"max_attempts": 1}))
    await together(jetray, "a", "b", "c")
    for job_id in ("a", "c"):
        assert names(await _log(jetray, job_id)) == GOOD
    assert isinstance(await jetray.end_of("errand", "b"), Failed)


ONE_SLOT_PROFILES = {"default": {"actors": 1, "concurrency": 1}}


# --- deadlines


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_a_job_past_its_attempts_deadline_pays_alone(world: World, concurrency: int) -> None:
    errand = Errand(attempt_deadline=2.0, max_attempts=2, retry_base=0.01)
    errand.say("guilty", anyio.sleep_forever)
    for job_id in ("b", "c"):
        errand.say(job_id, lambda: anyio.sleep(0.5))
    profiles = {"default": {"actors": 1, "concurrency": concurrency}}
    jetray = await world.gateway(errand.kind, settings=settings(profiles=profiles))
    await together(jetray, "a", "guilty", "b", "c")
    assert names(await _log(jetray, "a")) == GOOD, "it was over before"
    await _for_nothing(jetray, "b", "c")
    log = await _log(jetray, "guilty")
    assert names(log) == ["started", "retrying", "started", "retrying", "started", "failed"]
    assert isinstance(log[-1], Failed)
    assert (log[-1].error.reason, log[-1].error.type) == ("deadline", "DeadlineExceeded")
    assert [event.spent.attempts for event in log if isinstance(event, Started)] == [0, 0, 1]


async def test_a_job_that_never_ends_leaves_the_others_half_of_their_time(world: World) -> None:
    errand = Errand(deadline=100.0)
    errand.say("guilty", anyio.sleep_forever)
    errand.say("b", lambda: anyio.sleep(1))
    jetray = await world.gateway(errand.kind)
    await together(jetray, "a", "guilty", "b")
    began = anyio.current_time()
    await _for_nothing(jetray, "b")
    assert anyio.current_time() - began == pytest.approx(50, abs=2)
    log = await _log(jetray, "guilty")
    assert isinstance(log[-1], Failed)
    assert log[-1].error.reason == "deadline"
    assert anyio.current_time() - began == pytest.approx(100, abs=2)


# --- leases


def _lose(member: Member, job_id: str) -> None:
    [worker] = member.rooms.live.hands("errand", job_id)
    lease = worker.lease
    member.rooms.leases._give_up(lease)


@pytest.mark.parametrize("word", ["started", "completed"])
async def test_a_lease_lost_while_an_event_is_appended_stops_nobody_else(
    world: World, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks, errand = Hooks(), Errand()
    for job_id in ("a", "c"):
        errand.say(job_id, lambda: anyio.sleep(5))
    jetray = await world.gateway(errand.kind, settings=ONE_SLOT, hooks=hooks)

    async def lose(op: str, subject: str) -> None:
        if (op, subject) == ("publish", f"orchestration.errand.{word}.b"):
            hooks.on_after = Hooks().on_after
            _lose(jetray, "b")

    hooks.on_after = lose
    spy = Spy(jetray, monkeypatch)
    await together(jetray, "a", "b", "c")
    for job_id in ("a", "c"):
        assert names(await _log(jetray, job_id)) == GOOD, "its actor was not killed"
    log = await _log(jetray, "b")
    assert names(log) == (["started", "started", "completed"] if word == "started" else GOOD)
    await world.settled(lambda: world.kept(subjects.JOBS) == [], within_s=100)
    assert len(spy.called) == 1


async def test_a_lease_lost_while_the_call_runs_ends_the_call_at_once(world: World) -> None:
    errand = Errand()
    errand.say("b", anyio.sleep_forever)
    jetray = await world.gateway(errand.kind, settings=ONE_SLOT)
    await together(jetray, "a", "b", "c")
    await anyio.sleep(5)
    errand.say("b", 1)
    began = anyio.current_time()
    _lose(jetray, "b")
    await _for_nothing(jetray, "a", "c")
    assert anyio.current_time() - began < 2
    assert jetray.rooms.fleet.status().active == []
    log = await _log(jetray, "b")
    assert names(log) == ["started", "started", "completed"]
    assert [event.spent.lost for event in log if isinstance(event, Started)] == [0, 1]


async def test_one_whose_lease_is_lost_while_it_waits_for_a_slot_is_left_alone(world: World) -> None:
    errand = Errand()
    jetray = await world.gateway(errand.kind, settings=ONE_SLOT)
    async with boarding(jetray):
        for job_id in ("a", "b", "c"):
            await jetray.submit("errand", {"id": job_id})
        await anyio.sleep(1)
        _lose(jetray, "b")
        assert len(jetray.rooms.live) == 2
    for job_id in ("a", "b", "c"):
        assert names(await _log(jetray, job_id)) == GOOD
    assert sorted(errand.begun) == ["a", "b", "c"]


async def test_what_waited_beyond_its_lease_is_not_given_back(world: World) -> None:
    """As in a gateway that was stopped for long, and is told to drain as it goes on: others hold its messages now."""
    errand = Errand()
    jetray = await world.gateway(errand.kind, settings=ONE_SLOT)
    async with boarding(jetray):
        await jetray.submit("errand", {"id": "a"})
        await anyio.sleep(1)
        [lease] = jetray.rooms.leases._held
        lease.renewed -= 55
        jetray.gateway._platforms["errand"].clear()
        await anyio.sleep(0.1)
        assert [op for op, _, _ in jetray.hooks.calls if op == "nak"] == []
        assert len(jetray.rooms.live) == 0
    assert names(await _log(jetray, "a")) == GOOD


async def test_a_message_that_comes_again_to_whoever_runs_its_job_is_adopted(world: World) -> None:
    errand = Errand()
    errand.say("b", lambda: anyio.sleep(50))
    jetray = await world.gateway(errand.kind, settings=ONE_SLOT)
    await together(jetray, "a", "b", "c")
    await anyio.sleep(5)
    [b] = [it.sequence for it in world.kept(subjects.JOBS) if b'"b"' in it.body]
    world.server.consumer(subjects.JOBS, "errand").nak(b, 0.0, anyio.current_time())
    for job_id in ("a", "b", "c"):
        assert names(await _log(jetray, job_id)) == GOOD
    await world.settled(lambda: world.kept(subjects.JOBS) == [], within_s=5)
    assert sorted(errand.begun) == ["a", "b", "c"]
