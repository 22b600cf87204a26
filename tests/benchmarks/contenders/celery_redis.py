"""Celery on Redis: two processes, acknowledging late, results in Redis."""

from __future__ import annotations

import shutil
from typing import Any

from tests.benchmarks.contenders.base import Absent, Round, last_line
from tests.benchmarks.stage import running, short_folder

__all__ = ["play"]


async def play(count: int) -> Round:
    """One round. Raises `Absent` without a redis-server."""
    redis = shutil.which("redis-server")
    if redis is None:
        raise Absent("no redis-server here (on Debian and Ubuntu: apt install redis-server)")
    with short_folder() as folder:
        command = ["-m", "tests.benchmarks.contenders.celery_driver", redis, str(folder), str(count)]
        environment = {"BENCH_REDIS": f"redis+socket://{folder}/redis.sock"}
        async with running("celery", command, folder, environment) as process:
            said: dict[str, Any] = await last_line(process)
    return Round(count, said["per_second"], said["wrong"])
