"""A gateway that is lost at any step of a batch's way, and another that goes on: everything ends once."""

from __future__ import annotations

import anyio
import pytest

from contracts import subjects
from contracts.events import Started
from infra.bus.base import NoAnswer
from tests.runtime.kinds import Group, Puppet, grouping
from tests.runtime.world import Hooks, Member, serving, settings
from workers import Fail, JobContext

pytestmark = [pytest.mark.slow, pytest.mark.anyio]

FIGURES = ("consumer", "publish $KV", "publish workers.")
"""Calls that are for eyes alone: where they stand in between says nothing."""


class _LostAt(Hooks):
    """Loses its gateway at one call: before the server has seen it, or after the server has carried it out."""

    def __init__(self, step: int, *, after: bool) -> None:
        super().__init__()
        self.armed = False
        self.lost_at = ""
        self._left = step
        if after:
            self.on_after = self._lose
        else:
            self.on_before = self._lose
        self.member: Member | None = None

    async def _lose(self, op: str, subject: str) -> None:
        if not self.armed or self.lost_at or f"{op} {subject}".startswith(FIGURES):
            return
        self._left -= 1
        if self._left < 0:
            assert self.member is not None
            self.lost_at = f"{op} {subject}"
            self.member.bus.disconnect()
            raise NoAnswer("it is lost here")


@pytest.mark.parametrize("how", ["crash after", "cut before"])
async def test_a_gateway_lost_at_any_step_changes_nothing_that_matters(how: str) -> None:
    steps: list[str] = []
    for step in range(1_000):
        lost_at = await _one_life(step, how)
        if not lost_at:
            break
        steps.append(lost_at)
    for word in ("jobs.", "joins.", "dlq.", "orchestration.puppet.failed", "orchestration.group.completed"):
        assert any(lost_at.startswith(f"publish {word}") for lost_at in steps)


async def _one_life(step: int, how: str) -> str:
    """Run a batch of two children through the loss of its gateway at `step`; at which call that was."""

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
        hooks.armed = True
        await first.submit("group", Group(id="g", members=["a", "b"]))
        await world.settled(lambda: hooks.lost_at != "" or world.kept(subjects.JOBS) == [], within_s=100)
        if hooks.lost_at and how.startswith("crash"):
            await first.crash()
        if hooks.lost_at:
            await world.gateway()
        if hooks.lost_at and how.startswith("cut"):
            await anyio.sleep(100)
            first.bus.reconnect()
        told = f"lost at {hooks.lost_at}"
        result = await first.result_of("group", "g")
        assert result == [["g-a", "completed", 1], ["g-b", "failed", "user"]], told
        await world.settled(lambda: world.kept(subjects.JOBS) == [])
        assert [letter.job_id for letter in first.dead_letters()] == ["g-b"], told
        for kind, job_id in (("group", "g"), ("puppet", "g-a"), ("puppet", "g-b")):
            starts = [event for event in await first.events(kind, job_id) if isinstance(event, Started)]
            assert len(starts) <= 2, told
    return hooks.lost_at
