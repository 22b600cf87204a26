"""`infra.pool.crew`: what happens within one turn of the loop. Asyncio wakes tasks in the order of what woke them."""

from __future__ import annotations

import anyio
import pytest

from infra.pool.base import HostSpec, Profile
from infra.pool.memory import MemoryPool
from tests.conformance.pool import hosts

pytestmark = pytest.mark.anyio


async def test_a_slot_granted_on_an_actor_that_dies_in_the_same_turn_is_asked_for_again() -> None:
    pool = MemoryPool([Profile(name="default", actors=1)], HostSpec(factory=hosts.FACTORY, config=b""))
    got: list[str] = []

    async def second() -> None:
        got.append((await pool.reserve("default", exclusive=False)).actor)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pool.serve, lambda event: None)
        first = await pool.reserve("default", exclusive=False)
        async with anyio.create_task_group() as others:
            others.start_soon(second)
            await anyio.wait_all_tasks_blocked()
            # Whoever watches the actor is woken before whoever is granted the slot.
            pool.kill(first.actor)
            first.release()
        tasks.cancel_scope.cancel()
    assert got == ["jetray-memory-default-2"]
    assert first.actor == "jetray-memory-default-1"
