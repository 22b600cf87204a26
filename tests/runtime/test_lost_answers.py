"""Any one answer or request that is lost on a job's way changes nothing."""

from __future__ import annotations

import pytest

from contracts import subjects
from contracts.events import Failed
from infra.bus.base import NoAnswer
from tests.runtime.kinds import Puppet
from tests.runtime.world import Hooks, names, serving, settings
from workers import Retry

pytestmark = pytest.mark.anyio


async def test_any_one_lost_answer_or_request_changes_nothing() -> None:
    for way in ("on_before", "on_after"):
        for step in range(1_000):
            hooks = _LoseOne(way, step)
            async with serving() as world:
                puppet = Puppet()
                puppet.say("a", 1)
                puppet.say("b", Retry("again"))
                terms = settings(retry={"max_attempts": 2})
                jetray = await world.gateway(puppet.kind, hooks=hooks, settings=terms)
                hooks.armed = True
                await jetray.submit("puppet", {"id": "a"})
                await jetray.submit("puppet", {"id": "b"})
                assert await jetray.result_of("puppet", "a") == 1
                assert isinstance(await jetray.end_of("puppet", "b"), Failed)
                await world.settled(lambda: world.kept(subjects.JOBS) == [])
                hooks.armed = False
                assert names(await jetray.events("puppet", "a")) == ["started", "completed"]
                assert names(await jetray.events("puppet", "b")) == ["started", "retrying", "started", "failed"]
                assert sorted(puppet.attempts) == [("a", 1), ("b", 1), ("b", 2)]
                assert len(jetray.dead_letters()) == 1
            if not hooks.lost:
                assert step > 5, "there were steps at which something was lost"
                break


class _LoseOne(Hooks):
    """Loses the answer, or the request, of one call of those that a job's way is made of."""

    def __init__(self, way: str, step: int) -> None:
        super().__init__()
        self.armed = False
        self.lost = False
        self._left = step
        setattr(self, way, self._lose)

    async def _lose(self, op: str, subject: str) -> None:
        if self.armed and not self.lost and not subject.startswith(("$KV", "workers.")) and op != "consumer":
            self._left -= 1
            if self._left < 0:
                self.lost = True
                raise NoAnswer(f"the test lost {op} {subject}")
