"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import settings

# No deadline: how long one example takes says more of the machine than of the code. In CI the examples are always the
# same, so that what passes there passes again; elsewhere they are fewer, and others each time.
settings.register_profile("ci", deadline=None, derandomize=True)
settings.register_profile("quick", deadline=None, max_examples=30)
settings.load_profile("ci" if os.environ.get("CI") else "quick")


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
