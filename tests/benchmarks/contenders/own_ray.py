"""A Ray of a process's own, as contenders without Jetray start it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import ray

__all__ = ["own_ray"]


@contextmanager
def own_ray(cpus: int) -> Iterator[None]:
    """Ray, started as Jetray starts it, for as long as the block lasts."""
    # Sockets want a short path.
    workplace = tempfile.mkdtemp(prefix="jb-ray-", dir="/tmp")
    try:
        ray.init(
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            object_store_memory=192 * 1024**2,
            log_to_driver=False,
            configure_logging=False,
            _temp_dir=workplace,
        )
        yield
        ray.shutdown()
    finally:
        shutil.rmtree(workplace, ignore_errors=True)
