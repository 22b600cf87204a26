"""What all tests share."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import settings

from tests.cluster import Cluster, nats_cluster

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


@pytest.fixture(scope="session")
def cluster_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nats-servers for the whole session; tests take `cluster`."""
    with nats_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def cluster(cluster_session: Cluster) -> Cluster:
    """A whole cluster of three nats-servers. Others were there before: names of jobs must be the test's own."""
    cluster_session.start_missing()
    asyncio.run(cluster_session.whole())
    return cluster_session
