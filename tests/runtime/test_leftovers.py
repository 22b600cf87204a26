"""What a server brings back although it was acknowledged: it goes again, unless nobody has done it."""

from __future__ import annotations

import logging

import anyio
import pytest

from contracts import subjects
from infra.bus.base import Stored
from tests.runtime.kinds import Puppet
from tests.runtime.world import Hooks, Member, World, names, settings
from workers import Retry
from workers.runtime.leftovers import LOOK_S

pytestmark = pytest.mark.anyio


async def _message(world: World, jetray: Member, job_id: str) -> Stored:
    """A job's message, as it lies in its queue."""
    await jetray.submit("puppet", {"id": job_id})
    *_, found = world.kept(subjects.JOBS)
    return found


async def _done(world: World, jetray: Member, puppet: Puppet) -> Stored:
    """The message of a job that has ended."""
    message = await _message(world, jetray, "j1")
    puppet.say("j1", 1)
    assert await jetray.result_of("puppet", "j1") == 1
    await anyio.sleep(1)
    return message


def _bring_back(world: World, message: Stored, stream: str = subjects.JOBS) -> None:
    assert world.server.stream(stream).get(message.sequence) is None, "it was acknowledged"
    world.server.stream(stream).bring_back(message)


async def test_a_message_that_came_back_after_its_jobs_end_is_removed_and_runs_nothing(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind)
    await world.gateway()
    message = await _done(world, jetray, puppet)
    log = await jetray.events("puppet", "j1")
    _bring_back(world, message)
    await anyio.sleep(LOOK_S)
    assert world.kept(subjects.JOBS) == []
    assert await jetray.events("puppet", "j1") == log


async def test_one_whose_job_waits_in_a_copy_is_removed_and_harms_it_not(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, settings=settings(retry={"delayed": 2}))
    puppet.say("j0", Retry("later", after=20))
    await _message(world, jetray, "j0")
    await puppet.begun("j0")
    puppet.say("j1", Retry("later", after=300))
    message = await _message(world, jetray, "j1")
    await puppet.begun("j1")
    puppet.say("j0", 1)
    assert await jetray.result_of("puppet", "j0") == 1
    await anyio.sleep(1)
    [copy] = world.kept(subjects.JOBS)
    _bring_back(world, message)
    await anyio.sleep(LOOK_S)
    assert world.kept(subjects.JOBS) == [copy]
    puppet.say("j1", 1)
    assert await jetray.result_of("puppet", "j1") == 1
    assert names(await jetray.events("puppet", "j1")) == ["started", "retrying", "started", "completed"]


async def test_a_second_message_of_a_job_that_runs_goes_once_the_job_has_ended(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind)
    await _message(world, jetray, "j1")
    await puppet.begun("j1")
    await jetray.submit("puppet", {"id": "j1"}, high=True)
    [first, second] = world.kept(subjects.JOBS)
    await world.settled(lambda: world.kept(subjects.JOBS) == [first])
    _bring_back(world, second)
    with caplog.at_level(logging.WARNING, "jetray.leftovers"):
        await anyio.sleep(2 * LOOK_S)
    assert world.kept(subjects.JOBS) == [first, second]
    assert caplog.records == []
    puppet.say("j1", 1)
    assert await jetray.result_of("puppet", "j1") == 1
    await anyio.sleep(LOOK_S)
    assert world.kept(subjects.JOBS) == []


async def test_one_that_nobody_has_done_stays_and_is_told_of_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind)
    message = await _done(world, jetray, puppet)
    world.server.forget(subjects.EVENTS, "orchestration.puppet.*.j1")
    _bring_back(world, message)
    with caplog.at_level(logging.WARNING, "jetray.leftovers"):
        await anyio.sleep(3 * LOOK_S)
    assert [each.sequence for each in world.kept(subjects.JOBS)] == [1]
    assert [record.getMessage() for record in caplog.records] == [
        "puppet.j1: message 1 of JOBS is delivered to nobody any more, and no log tells of an end: publish it again "
        "under another Nats-Msg-Id, and then remove it with `nats stream rmm`"
    ]
    world.server.stream(subjects.JOBS).remove(1)


async def test_a_command_that_came_back_is_removed_and_not_carried_out_again(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind)
    await _done(world, jetray, puppet)
    subject = subjects.cancel("puppet", "j1")
    sequence = (await world.client.publish(subject, b"")).sequence
    message = world.server.stream(subjects.CONTROL).get(sequence)
    assert message is not None
    await world.settled(lambda: world.kept(subjects.CONTROL) == [])
    answers = world.kept(subjects.WORKERS, "workers.control.*.*")
    _bring_back(world, message, subjects.CONTROL)
    await anyio.sleep(LOOK_S)
    assert world.kept(subjects.CONTROL) == []
    assert world.kept(subjects.WORKERS, "workers.control.*.*") == answers


async def test_a_bus_that_does_not_answer_is_asked_again(world: World) -> None:
    puppet, hooks = Puppet(), Hooks()
    jetray = await world.gateway(puppet.kind, hooks=hooks)
    message = await _done(world, jetray, puppet)
    _bring_back(world, message)
    hooks.lose_answers("leftover", "JOBS.puppet", times=2)
    await anyio.sleep(LOOK_S)
    assert [each.sequence for each in world.kept(subjects.JOBS)] == [1]
    await anyio.sleep(LOOK_S)
    assert world.kept(subjects.JOBS) == []
