"""Celery on Redis: two processes, acknowledging late, results in Redis."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.contenders.base import Absent, Round, last_line
from tests.benchmarks.stage import running

__all__ = ["play"]


async def play(count: int) -> Round:
    """One round. Raises `Absent` without a redis-server."""
    redis = shutil.which("redis-server")
    if redis is None:
        raise Absent("no redis-server here (on Debian and Ubuntu: apt install redis-server)")
    with tempfile.TemporaryDirectory(prefix="jb-celery-", dir="/tmp") as name:
        command = ["-m", "tests.benchmarks.contenders.celery_driver", redis, name, str(count)]
        environment = {"BENCH_REDIS": f"redis+socket://{name}/redis.sock"}
        async with running("celery", command, Path(name), environment) as process:
            said: dict[str, Any] = await last_line(process)
    return Round(count, said["per_second"], said["wrong"])
