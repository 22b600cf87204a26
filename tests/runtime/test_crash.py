"""A gateway that dies at any step of a batch's way, and another that goes on: everything ends once, as it would have."""

from __future__ import annotations

import anyio
import pytest

from contracts import subjects
from contracts.events import Completed, Started
from infra.bus.base import NoAnswer
from tests.runtime.kinds import Group, Puppet, grouping
from tests.runtime.world import Hooks, Member, serving, settings
from workers import Fail

pytestmark = pytest.mark.anyio

FIGURES = ("consumer", "publish $KV", "publish workers.")
"""Calls that are for eyes alone: where they stand in between says nothing."""


class _DieAt(Hooks):
    """Dies at one step: before the server has seen the call, or after it has done it and before the answer is read."""

    def __init__(self, step: int, *, after: bool) -> None:
        super().__init__()
        self.armed = False
        self.died = ""
        self._left = step
        if after:
            self.on_after = self._die
        else:
            self.on_before = self._die
        self.member: Member | None = None

    async def _die(self, op: str, subject: str) -> None:
        if not self.armed or self.died or f"{op} {subject}".startswith(FIGURES):
            return
        self._left -= 1
        if self._left < 0:
            assert self.member is not None
            self.died = f"{op} {subject}"
            self.member.bus.disconnect()
            raise NoAnswer("it dies here")


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_crash_at_any_step_changes_nothing_that_matters(after: bool) -> None:
    steps: list[str] = []
    for step in range(1_000):
        died = await _one_life(step, after=after)
        if not died:
            break
        steps.append(died)
    assert len(steps) > 20
    assert any(died.startswith("publish joins.") for died in steps)
    assert any(died.startswith("publish dlq.") for died in steps)
    assert any(died.startswith("publish orchestration.group.completed") for died in steps)


async def _one_life(step: int, *, after: bool) -> str:
    """Run a batch of three children through a crash at `step`; at which call it was."""
    puppet = Puppet(max_attempts=1)
    puppet.say("g-a", 1)
    puppet.say("g-b", Fail("no"))
    puppet.say("g-c", 3)
    hooks = _DieAt(step, after=after)
    async with serving() as world:
        terms = settings(profiles={"default": {"actors": 1, "concurrency": 8}}, gateway={"ack_wait_s": 30})
        first = hooks.member = await world.gateway(puppet.kind, grouping(), hooks=hooks, settings=terms)
        hooks.armed = True
        await first.submit("group", Group(id="g", members=["a", "b", "c"]))
        await world.settled(lambda: hooks.died != "" or world.kept(subjects.JOBS) == [], within_s=100)
        if hooks.died:
            await first.crash()
            await world.gateway()
        told = f"after a crash at {hooks.died}"
        end = await first.end_of("group", "g")
        assert isinstance(end, Completed), told
        assert await first.result_of("group", "g") == [
            ["g-a", "completed", 1],
            ["g-b", "failed", "user"],
            ["g-c", "completed", 3],
        ], told
        await world.settled(lambda: world.kept(subjects.JOBS) == [])
        assert [letter.job_id for letter in first.dead_letters()] == ["g-b"], told
        for kind, job_id in (("group", "g"), ("puppet", "g-a"), ("puppet", "g-b"), ("puppet", "g-c")):
            starts = [event for event in await first.events(kind, job_id) if isinstance(event, Started)]
            assert len(starts) <= 2, told
            assert [start.spent.lost for start in starts] == [*range(len(starts))] or kind == "group", told
        await anyio.sleep(0)
    return hooks.died
