"""Ray without a bus: the client holds all jobs in memory, and awaits calls of two actors."""

from __future__ import annotations

from typing import Any

from tests.benchmarks.contenders.base import Round, last_line
from tests.benchmarks.stage import RAY_FOLDER, running, short_folder

__all__ = ["play", "play_batched"]


async def play(count: int) -> Round:
    """One round, one job a call: the best of 16, 64 and 256 calls in flight."""
    return await _play("single", count)


async def play_batched(count: int) -> Round:
    """One round, 64 jobs a call: the best of 4, 8 and 16 calls in flight."""
    return await _play("batched", count)


async def _play(how: str, count: int) -> Round:
    with short_folder() as folder:
        command = ["-m", "tests.benchmarks.contenders.raw_ray_app", how, str(count)]
        async with running("raw-ray", command, folder, {RAY_FOLDER: str(folder)}) as process:
            said: dict[str, Any] = await last_line(process)
    detail: dict[str, float] = said["rates"]
    return Round(count, max(detail.values()), said["wrong"], detail)
