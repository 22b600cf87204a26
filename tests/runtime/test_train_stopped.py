"""What befalls short jobs that travel together: drains, crashes, outages, full streams."""

from __future__ import annotations

import anyio
import pytest

from contracts import subjects
from contracts.events import Completed, Event, Failed, Spent, Started
from infra.bus.base import NoAnswer
from tests.runtime.test_pressure import fill, make_room
from tests.runtime.trains import Errand, Spy, boarding, ids, together
from tests.runtime.world import ONE_SLOT, Hooks, Member, World, names, settings

pytestmark = pytest.mark.anyio

GOOD = ["started", "completed"]
ONE_SLOT_PROFILES = {"default": {"actors": 1, "concurrency": 1}}

PHASES = ["started", "run", "completed", "ack"]
"""What a train is about: appending, calling, appending, settling."""


async def _log(member: Member, job_id: str) -> list[Event]:
    await member.end_of("errand", job_id)
    return await member.events("errand", job_id)


# --- drains


async def test_what_waits_for_a_slot_is_given_back_at_once(world: World) -> None:
    errand = Errand()
    jetray = await world.gateway(errand.kind, settings=ONE_SLOT)
    jetray.gateway._platforms["errand"]._learn("", 1, 0.0)
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
