"""`infra.pool.memory`: what is its own beside the conformance suite."""

from __future__ import annotations

import itertools
from typing import Any

import anyio
import pytest
from trio.testing import MockClock

from contracts.calls import Call, Gone, Returned
from infra.pool.base import PoolEvent, Profile
from infra.pool.memory import MemoryPool
from tests.conformance.pool.worlds import begin, call

pytestmark = pytest.mark.anyio


class Slow:
    """A host whose jobs take an hour."""

    async def execute(self, called: Call, send: object) -> Returned:
        await anyio.sleep(3600)
        return Returned(result=b'"slept"')

    def cancel(self, job: str) -> bool:
        return False


@pytest.fixture
def anyio_backend() -> Any:
    return ("trio", {"clock": MockClock(autojump_threshold=0)})


async def test_a_pool_runs_under_a_virtual_clock() -> None:
    events: list[PoolEvent] = []
    pool = MemoryPool([Profile(name="default", actors=1, concurrency=2)], Slow)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pool.serve, events.append)
        began = anyio.current_time()
        slept = await begin(pool, call("sleeps"))
        assert await slept.outcome() == Returned(result=b'"slept"')
        assert anyio.current_time() - began == 3600
        lost = await begin(pool, call("sleeps"))
        pool.kill("jetray-memory-default-1")
        assert isinstance(await lost.outcome(), Gone)
        # A host that hears nothing is asked for as long as grace lasts, and then killed.
        deaf = await begin(pool, call("sleeps"))
        began = anyio.current_time()
        await deaf.stop(30)
        assert anyio.current_time() - began == pytest.approx(30)
        assert isinstance(await deaf.outcome(), Gone)
        tasks.cancel_scope.cancel()
    assert [event.what for event in events if event.what in ("failed", "retired")][:2] == ["failed", "failed"]


async def test_actors_that_die_over_their_first_call_are_replaced_ever_later() -> None:
    ready: list[float] = []

    def listen(event: PoolEvent) -> None:
        if event.what == "initialized":
            ready.append(anyio.current_time())

    pool = MemoryPool([Profile(name="default", actors=1)], Slow)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pool.serve, listen)
        for number in range(1, 6):
            await begin(pool, call("sleeps"))
            pool.kill(f"jetray-memory-default-{number}")
        # One that does some good first is replaced at once.
        execution = await begin(pool, call("sleeps"))
        await execution.outcome()
        await begin(pool, call("sleeps"))
        died = anyio.current_time()
        pool.kill("jetray-memory-default-6")
        await pool.wait_free("default", exclusive=False)
        assert anyio.current_time() == died
        tasks.cancel_scope.cancel()
    waits = [after - before for before, after in itertools.pairwise(ready)]
    assert waits[:5] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6])
