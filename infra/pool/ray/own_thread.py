"""A cluster for the length of a block, in a thread of its own, and watched.

Ray's processes end with the *thread* that started them (Linux's parent-death signal), starting takes seconds, and some
of its calls block: so a cluster's `start` and `stop` run in a thread of their own that lives from one to the other.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Final

import anyio

from infra.pool.base import PoolLost
from infra.pool.ray.cluster import Cluster

__all__ = ["in_own_thread", "starting_alone"]

_log = logging.getLogger("jetray.pool")

_THREAD: Final = "ray-of-jetray"
LOOK_S: Final = 0.5
"""Between two looks at whether Ray is still there."""


@asynccontextmanager
async def in_own_thread(cluster: Cluster) -> AsyncIterator[None]:
    """Have the cluster for the length of the block. Raises `PoolLost` into it."""
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=_THREAD)
    start = thread.submit(cluster.start)
    try:
        await asyncio.wrap_future(start)
        async with anyio.create_task_group() as beside:
            beside.start_soon(_watch, cluster)
            yield
            beside.cancel_scope.cancel()
    finally:
        if cluster.abort() or start.done():
            with anyio.CancelScope(shield=True):
                await asyncio.wrap_future(thread.submit(cluster.stop))
            # It has nothing left to do.
            thread.shutdown()
        else:
            thread.shutdown(wait=False)


async def _watch(cluster: Cluster) -> None:
    # In a thread, for it may have to knock; and again and again, for a process of Ray's that ends tells nobody.
    while (loss := await anyio.to_thread.run_sync(cluster.loss, abandon_on_cancel=True)) is None:  # noqa: ASYNC110
        await anyio.sleep(LOOK_S)
    line = f"{loss}: this gateway ends, so that whoever keeps it alive starts one that has a Ray"
    # At once: what runs is ended first, and that takes its time without a Ray.
    _log.error("%s", line)
    raise PoolLost(line)


def starting_alone() -> bool:
    """Whether a Ray is starting here that nobody wants any more.

    Its processes end with this one. What those have started, as agents, would look for them for a minute: `kill_below`.
    """
    return any(thread.name.startswith(_THREAD) for thread in threading.enumerate())
