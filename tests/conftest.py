"""What all tests share."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """Tests marked `anyio` run on asyncio unless their module says otherwise."""
    return "asyncio"


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One embedded Ray for the whole session, with room for 40 actors of 0.1 CPUs. Pools take it as `BorrowedRay`."""
    from infra.pool.base import Profile
    from infra.pool.ray.cluster import EmbeddedRay

    cluster = EmbeddedRay([Profile(name="tests", actors=40, cpus=0.1)])
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="ray") as thread:
        try:
            thread.submit(cluster.start).result()
            yield
        finally:
            thread.submit(cluster.stop).result()
