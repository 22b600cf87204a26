"""Messages that wait at the tail of their queue, because too many others wait out a delay."""

from __future__ import annotations

import anyio
import pytest

from contracts import subjects
from contracts.events import Retrying, Started
from tests.runtime.kinds import Puppet
from tests.runtime.world import Hooks, Member, World, names, settings
from workers import Retry
from workers.runtime.depths import LOOK_S

pytestmark = pytest.mark.anyio

FEW = settings(retry={"delayed": 4})
"""Two may wait out a delay before others move."""


async def _crowded(world: World, puppet: Puppet, hooks: Hooks) -> Member:
    """A gateway in which job `j0` waits, and whatever else is to wait moves."""
    jetray = await world.gateway(puppet.kind, settings=settings(retry={"delayed": 2}), hooks=hooks)
    puppet.say("j0", Retry("later", after=300))
    await jetray.submit("puppet", {"id": "j0"})
    await puppet.begun("j0")
    await anyio.sleep(1)
    return jetray


async def test_past_half_of_the_room_they_move(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, settings=FEW)
    for number in range(4):
        puppet.say(f"j{number}", Retry("later", after=300))
        await jetray.submit("puppet", {"id": f"j{number}"})
        await puppet.begun(f"j{number}")
        await anyio.sleep(1)
    logs = [await jetray.events("puppet", f"j{number}") for number in range(4)]
    assert [names(log)[:2] for log in logs] == [["started", "retrying"]] * 4
    moves = [[event.moved for event in log if isinstance(event, Retrying)] for log in logs]
    assert moves == [[False], [False], [True], [True]]
    for number in range(4):
        puppet.say(f"j{number}", number)
    for number in range(4):
        assert await jetray.result_of("puppet", f"j{number}") == number
    moved = await jetray.events("puppet", "j2")
    assert {event.origin for event in moved} == {moved[0].origin}, "the log goes on under its own origin"
    first, *_, last = [event for event in moved if isinstance(event, Started)]
    assert last.delivery.sequence > first.delivery.sequence
    assert (last.time - first.time).total_seconds() >= 299, "what waits in the queue waits no less"
    assert world.kept(subjects.JOBS) == []


async def test_what_gateways_have_in_hand_takes_no_room_of_those_that_wait(world: World) -> None:
    puppet = Puppet()
    eight = settings(retry={"delayed": 4}, profiles={"default": {"actors": 1, "concurrency": 8}})
    busy = await world.gateway(puppet.kind, settings=eight)
    for number in range(8):
        await busy.submit("puppet", {"id": f"busy{number}"})
        await puppet.begun(f"busy{number}")
    jetray = await world.gateway(puppet.kind, settings=FEW)
    await jetray.submit("puppet", {"id": "a"})
    await puppet.begun("a")
    await anyio.sleep(2 * LOOK_S)
    puppet.say("a", Retry("later", after=300))
    await anyio.sleep(1)
    assert [event.moved for event in await jetray.events("puppet", "a") if isinstance(event, Retrying)] == [False]
    for job_id in ("a", *(f"busy{number}" for number in range(8))):
        puppet.say(job_id, 1)
        await jetray.end_of("puppet", job_id)


async def test_the_others_are_not_starved(world: World) -> None:
    """With two places left in all, those that wait would fill them, and nothing else would be delivered."""
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, settings=FEW)
    for number in range(30):
        puppet.say(f"j{number}", Retry("later", after=500))
        await jetray.submit("puppet", {"id": f"j{number}"})
    puppet.say("quick", 1)
    await jetray.submit("puppet", {"id": "quick"})
    assert await jetray.result_of("puppet", "quick", within_s=60) == 1
    for number in range(30):
        puppet.say(f"j{number}", number)
    for number in range(30):
        await jetray.end_of("puppet", f"j{number}")


async def test_a_move_whose_answer_is_lost_is_made_once(world: World) -> None:
    puppet = Puppet()
    hooks = Hooks()
    jetray = await _crowded(world, puppet, hooks)
    puppet.say("j1", Retry("later", after=2))
    await jetray.submit("puppet", {"id": "j1"})
    hooks.lose_answers("publish", "jobs.puppet", times=2)
    await puppet.begun("j1")
    puppet.say("j1", 1)
    assert await jetray.result_of("puppet", "j1") == 1
    assert [attempt for job_id, attempt in puppet.attempts if job_id == "j1"] == [1, 2]
    puppet.say("j0", 0)
    assert await jetray.result_of("puppet", "j0") == 0


async def test_a_crash_between_retrying_and_its_copy_loses_nothing(world: World) -> None:
    puppet = Puppet()
    hooks = Hooks()
    first = await _crowded(world, puppet, hooks)
    gone = anyio.Event()

    async def crash(op: str, subject: str) -> None:
        if (op, subject) == ("publish", "jobs.puppet"):
            gone.set()
            await anyio.sleep_forever()

    hooks.on_before = crash
    puppet.say("j1", Retry("later", after=2))
    await first.submit("puppet", {"id": "j1"})
    await gone.wait()
    await first.crash()
    puppet.say("j1", 1)
    puppet.say("j0", 0)
    second = await world.gateway()
    assert await second.result_of("puppet", "j1") == 1
    assert await second.result_of("puppet", "j0") == 0
