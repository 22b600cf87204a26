"""One actor from its start to its end."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import anyio

from contracts.calls import Gone
from contracts.errors import ErrorInfo
from infra.pool.actor import ActorLost, lost
from infra.pool.execution import Berth

__all__ = ["attend", "started"]


async def started(berth: Berth) -> ErrorInfo | None:
    """Return once the actor is ready, or say what keeps it from that; then nothing of it is left."""
    is_ready = False
    try:
        await berth.actor.ready()
        is_ready = True
    except ActorLost as gone:
        return gone.error
    finally:
        if not is_ready:
            with anyio.CancelScope(shield=True):
                await berth.actor.kill()
    return None


async def attend(
    berth: Berth,
    beside: Callable[[Berth], Coroutine[Any, Any, None]],
    ended: Callable[[Berth, tuple[str, ...], bool], None],
) -> None:
    """Have the actor work until it must go, and see it gone; `beside` runs meanwhile.

    `ended` is told of the jobs that it took along, and whether it was stopped with the pool.
    """
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_watch, berth)
            tasks.start_soon(beside, berth)
            await berth.condemned.wait()
            tasks.cancel_scope.cancel()
    finally:
        stopped = berth.error is None
        berth.condemn(lost("PoolStopped", f"the pool was stopped, and {berth.name} with it"))
        with anyio.CancelScope(shield=True):
            jobs = await _see_gone(berth)
        ended(berth, jobs, stopped)


async def _watch(berth: Berth) -> None:
    berth.condemn(await berth.actor.died())


async def _see_gone(berth: Berth) -> tuple[str, ...]:
    """End the actor and then the calls that it took along: those jobs."""
    await berth.actor.kill()
    assert berth.error is not None
    berth.gone = True
    for running in berth.running:
        running.lose(Gone(error=berth.error))
        running.scope.cancel()
    return tuple(sorted(job for running in berth.running for job in running.jobs))
