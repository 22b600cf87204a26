"""A gateway that is lost at any step of a batch's way, and another that goes on: everything ends once."""

from __future__ import annotations

from collections import Counter

import anyio
import pytest

from contracts import subjects
from contracts.events import Started
from infra.bus.base import NoAnswer
from tests.runtime.kinds import Group, Puppet, grouping
from tests.runtime.world import Hooks, Member, serving, settings
from workers import Fail, JobContext

pytestmark = [pytest.mark.slow, pytest.mark.anyio]

Step = tuple[str, int]
"""A call, and the how-manieth of its like."""

FIGURES = ("consumer", "publish $KV", "publish workers.")
"""Calls that are for eyes alone: where they stand in between says nothing."""


class _LostAt(Hooks):
    """Loses its gateway at one call: before the server has seen it, or after the server has carried it out."""

    def __init__(self, step: Step | None, *, after: bool) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self.lost = False
        self.member: Member | None = None
        self._at = step
        self._count: Counter[str] = Counter()
        if after:
            self.on_after = self._note
        else:
            self.on_before = self._note

    async def _note(self, op: str, subject: str) -> None:
        call = f"{op} {subject}"
        if self.member is None or self.lost or call.startswith(FIGURES):
            return
        self._count[call] += 1
        self.steps.append((call, self._count[call]))
        if self.steps[-1] == self._at:
            self.lost = True
            self.member.bus.disconnect()
            raise NoAnswer("it is lost here")


@pytest.mark.parametrize("how", ["crash after", "cut before"])
async def test_a_gateway_lost_at_any_step_changes_nothing_that_matters(how: str) -> None:
    steps = await _one_life(None, how)
    calls = {call for call, _ in steps}
    assert {"publish jobs.puppet", "publish joins.group.g", "publish dlq.puppet.g-b"} <= calls
    assert {"publish orchestration.puppet.progress.g-a", "publish orchestration.group.completed.g"} <= calls
    for step in steps:
        await _one_life(step, how)


async def _one_life(step: Step | None, how: str) -> list[Step]:
    """Run a batch of two children through the loss of its gateway at `step`; the steps that were seen."""

    async def takes_long(ctx: JobContext) -> int:
        ctx.progress(done=1)
        await anyio.sleep(5)
        return 1

    puppet = Puppet(max_attempts=1)
    puppet.say("g-a", takes_long)
    puppet.say("g-b", Fail("no"))
    hooks = _LostAt(step, after=how.endswith("after"))
    async with serving() as world:
        terms = settings(profiles={"default": {"actors": 1, "concurrency": 8}}, gateway={"ack_wait_s": 30})
        first = hooks.member = await world.gateway(puppet.kind, grouping(), hooks=hooks, settings=terms)
        await first.submit("group", Group(id="g", members=["a", "b"]))
        await world.settled(lambda: hooks.lost or world.kept(subjects.JOBS) == [], within_s=100)
        if hooks.lost and how.startswith("crash"):
            await first.crash()
        if hooks.lost:
            await world.gateway()
        if hooks.lost and how.startswith("cut"):
            await anyio.sleep(100)
            first.bus.reconnect()
        result = await first.result_of("group", "g")
        assert result == [["g-a", "completed", 1], ["g-b", "failed", "user"]], step
        await world.settled(lambda: world.kept(subjects.JOBS) == [])
        assert [letter.job_id for letter in first.dead_letters()] == ["g-b"], step
        for kind, job_id in (("group", "g"), ("puppet", "g-a"), ("puppet", "g-b")):
            starts = [event for event in await first.events(kind, job_id) if isinstance(event, Started)]
            assert len(starts) <= 2, step
    return hooks.steps
