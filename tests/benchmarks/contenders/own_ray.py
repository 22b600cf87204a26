"""A Ray of a process's own, as contenders without Jetray start it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from tests.benchmarks.stage import RAY_FOLDER

__all__ = ["own_ray"]


@contextmanager
def own_ray(cpus: int) -> Iterator[None]:
    """Ray, started as Jetray starts it, for as long as the block lasts."""
    ray.init(
        address="local",
        num_cpus=cpus,
        include_dashboard=False,
        object_store_memory=192 * 1024**2,
        log_to_driver=False,
        configure_logging=False,
        _temp_dir=os.environ[RAY_FOLDER],
    )
    yield
    ray.shutdown()
