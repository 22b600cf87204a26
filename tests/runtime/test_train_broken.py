"""What befalls short jobs that travel together: deaths, deadlines, lost leases, drains, outages, full streams."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest

from contracts import subjects
from contracts.events import Completed, Event, Failed, Retrying, Spent, Started
from infra.bus.base import NoAnswer
from tests.runtime.test_pressure import fill, make_room
from tests.runtime.trains import Errand, Spy, boarding, ids, together
from tests.runtime.world import ONE_SLOT, Hooks, Member, World, names, settings

pytestmark = pytest.mark.anyio

GOOD = ["started", "completed"]
RERUN = ["started", "retrying", "started", "completed"]

PHASES = ["started", "run", "completed", "ack"]
"""What a train is about: appending, calling, appending, settling."""


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
    lease = worker._lease
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


# --- drains


async def test_what_waits_for_a_slot_is_given_back_at_once(world: World) -> None:
    errand = Errand()
    jetray = await world.gateway(errand.kind, settings=ONE_SLOT)
    jetray.gateway._platforms["errand"]._sizing = jetray.gateway._platforms["errand"]._sizing.after(1, 0.0)
    async with boarding(jetray):
        for job_id in ids(5):
            await jetray.submit("errand", {"id": job_id})
        await anyio.sleep(1)
        began = anyio.current_time()
        await jetray.drain()
        assert anyio.current_time() == pytest.approx(began, abs=0.5)
    assert errand.begun == []
    second = await world.gateway()
    for job_id in ids(5):
        assert isinstance(await second.end_of("errand", job_id, within_s=5), Completed)


@pytest.mark.parametrize("phase", PHASES)
async def test_draining_in_any_phase_lets_the_call_end_and_loses_nothing(world: World, phase: str) -> None:
    hooks, errand = Hooks(), Errand()
    for job_id in ("a", "b", "c"):
        errand.say(job_id, lambda: anyio.sleep(1))
    jetray = await world.gateway(errand.kind, settings=ONE_SLOT, hooks=hooks)
    reached = _reach(hooks, phase, wait_s=2)
    await together(jetray, "a", "b", "c")
    await reached.wait()
    await jetray.drain()
    for job_id in ("a", "b", "c"):
        assert names(await _log(jetray, job_id)) == GOOD
    assert errand.begun == ["a", "b", "c"]


@pytest.mark.parametrize("phase", ["started", "run", "completed"])
async def test_what_does_not_end_in_the_grace_period_is_given_back_for_nothing(world: World, phase: str) -> None:
    hooks, errand = Hooks(), Errand()
    errand.say("b", anyio.sleep_forever)
    if phase == "completed":
        errand.say("b", 1)
    terms = settings(profiles=ONE_SLOT_PROFILES, gateway={"grace_s": 5})
    jetray = await world.gateway(errand.kind, settings=terms, hooks=hooks)
    reached = _reach(hooks, phase, wait_s=8)
    await together(jetray, "a", "b", "c")
    await reached.wait()
    began = anyio.current_time()
    await jetray.drain()
    assert anyio.current_time() - began < 12
    errand.say("b", 1)
    second = await world.gateway()
    for job_id in ("a", "b", "c"):
        assert isinstance(await second.end_of("errand", job_id, within_s=5), Completed)
        log = await second.events("errand", job_id)
        assert [event.spent for event in log if isinstance(event, Started)] in ([Spent()], [Spent()] * 2)


def _reach(hooks: Hooks, phase: str, *, wait_s: float = 0.0) -> anyio.Event:
    """Set where the train comes by a phase first, which then takes so long."""
    reached = anyio.Event()
    op, subject = {
        "run": ("publish", "orchestration.errand.started."),
        "ack": ("ack", "jobs.errand"),
    }.get(phase, ("publish", f"orchestration.errand.{phase}."))

    until = 0.0

    async def note(called: str, with_: str) -> None:
        nonlocal until
        if called != op or not with_.startswith(subject):
            return
        if not reached.is_set():
            until = anyio.current_time() + (0.0 if phase == "run" else wait_s)
            reached.set()
        await anyio.sleep(max(0.0, until - anyio.current_time()))

    if phase == "run":
        hooks.on_after = note
    else:
        hooks.on_before = note
    return reached


# --- the server


@pytest.mark.parametrize("lasts_s", [5, 200])
@pytest.mark.parametrize("phase", PHASES)
async def test_an_outage_in_any_phase_loses_nothing(world: World, phase: str, lasts_s: float) -> None:
    hooks, errand = Hooks(), Errand()
    for job_id in ("a", "b", "c"):
        errand.say(job_id, lambda: anyio.sleep(1))
    jetray = await world.gateway(errand.kind, settings=ONE_SLOT, hooks=hooks)
    reached = _reach(hooks, phase, wait_s=0.5)
    await together(jetray, "a", "b", "c")
    await reached.wait()
    await anyio.sleep(0.2)
    jetray.bus.disconnect()
    await anyio.sleep(lasts_s)
    if lasts_s > 60:
        assert [what for what in jetray.leaks() if not what.startswith("slots")] == []
    jetray.bus.reconnect()
    for job_id in ("a", "b", "c"):
        log = await _log(jetray, job_id)
        assert names(log)[-1] == "completed"
        lost = [event.spent.lost for event in log if isinstance(event, Started)]
        assert lost in ([0], [0, 1] if lasts_s > 60 else [0]), "a short one costs nobody anything"
    await world.settled(lambda: world.kept(subjects.JOBS) == [], within_s=200)


@pytest.mark.parametrize("way", ["on_before", "on_after"])
@pytest.mark.parametrize("call", ["publish orchestration.errand.started.b", "publish orchestration.errand.completed.b"])
async def test_one_lost_answer_or_request_changes_nothing(
    world: World, way: str, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hooks, errand = Hooks(), Errand()
    jetray = await world.gateway(errand.kind, settings=ONE_SLOT, hooks=hooks)

    async def lose(op: str, subject: str) -> None:
        if f"{op} {subject}" == call:
            setattr(hooks, way, getattr(Hooks(), way))
            raise NoAnswer("lost on the way")

    setattr(hooks, way, lose)
    spy = Spy(jetray, monkeypatch)
    await together(jetray, "a", "b", "c")
    for job_id in ("a", "b", "c"):
        assert names(await _log(jetray, job_id)) == GOOD
    assert sorted(errand.begun) == ["a", "b", "c"]
    assert spy.called == [["a", "c"] if "started" in call else ["a", "b", "c"]]


@pytest.mark.parametrize("phase", ["started", "run", "completed"])
async def test_while_events_is_full_nothing_is_acknowledged_and_then_it_goes_on(world: World, phase: str) -> None:
    hooks, errand = Hooks(), Errand()
    for job_id in ("a", "b", "c"):
        errand.say(job_id, lambda: anyio.sleep(1))
    jetray = await world.gateway(errand.kind, settings=ONE_SLOT, hooks=hooks)
    reached = _reach(hooks, phase, wait_s=0.5)
    await together(jetray, "a", "b", "c")
    await reached.wait()
    await anyio.sleep(0.2)
    fill(world, subjects.EVENTS)
    await anyio.sleep(300)
    assert len(world.kept(subjects.JOBS)) == 3
    assert jetray.rooms.pressure.paused("errand")
    make_room(world, subjects.EVENTS)
    for job_id in ("a", "b", "c"):
        assert names(await _log(jetray, job_id)) == GOOD
    assert sorted(errand.begun) == ["a", "b", "c"]


async def test_while_dlq_is_full_the_good_ones_of_a_train_go_on(world: World) -> None:
    errand = Errand(max_attempts=1)
    errand.say("b", ValueError("no"))
    jetray = await world.gateway(errand.kind, settings=ONE_SLOT)
    fill(world, subjects.DLQ)
    await together(jetray, "a", "b", "c")
    for job_id in ("a", "c"):
        assert names(await _log(jetray, job_id)) == GOOD
    await anyio.sleep(100)
    assert names(await jetray.events("errand", "b")) == ["started"]
    make_room(world, subjects.DLQ)
    assert isinstance(await jetray.end_of("errand", "b"), Failed)


async def test_a_gateway_that_crashes_with_a_train_under_way_is_replaced(world: World) -> None:
    errand = Errand()
    errand.say("b", anyio.sleep_forever)
    first = await world.gateway(errand.kind, settings=ONE_SLOT)
    await together(first, "a", "b", "c")
    await anyio.sleep(1)
    await first.crash()
    errand.say("b", 2)
    second = await world.gateway()
    for job_id in ("a", "b", "c"):
        log = await _log(second, job_id)
        assert names(log) == ["started", "started", "completed"]
        assert [event.spent.lost for event in log if isinstance(event, Started)] == [0, 1]
