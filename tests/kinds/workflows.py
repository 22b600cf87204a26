"""Workflows for tests."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
from msgspec import Struct

from workers import Fail, JobContext, Retry, VariantResult, workflow

__all__ = ["Point"]


class Point(Struct):
    """Parameters."""

    x: float
    y: float = 0.0


@workflow("tests.sum")
def total(point: Point) -> dict[str, Any]:
    """Score by a plain function without a context."""
    return {"score": point.x + point.y, "metrics": {"x": point.x}, "output": "summed"}


@workflow("tests.told")
def told(ctx: JobContext, parameters: dict[str, Any]) -> VariantResult:
    """Reports, and scores what it is told to."""
    ctx.progress(done=1, total=1, message=ctx.job_id)
    return VariantResult(score=parameters["score"])


@workflow("tests.judge")
class Judge:
    """An object that judges its own output."""

    def run(self, point: Point) -> list[float]:
        """The output."""
        return [point.x, point.y]

    def score(self, output: list[float]) -> float:
        """The greater of the two."""
        return max(output)

    def metrics(self, output: list[float]) -> dict[str, float]:
        """The smaller one."""
        return {"least": min(output)}


@workflow("tests.async")
async def later(ctx: JobContext, point: Point) -> dict[str, Any]:
    """Waits `x` seconds."""
    await anyio.sleep(point.x)
    return {"score": point.x}


@workflow("tests.own-loop")
def own_loop(point: Point) -> dict[str, Any]:
    """Waits `x` seconds on a loop of its own."""
    asyncio.run(asyncio.sleep(point.x))
    return {"score": point.x}


@workflow("tests.says")
def says(parameters: dict[str, Any]) -> Any:
    """Ends in the way that it is told to."""
    match parameters.get("end"):
        case "fail":
            return Fail("no such prompt")
        case "retry":
            raise Retry("busy", after=3)
        case "text":
            return "no mapping"
        case "score":
            return {"score": "high"}
    raise ValueError("not told how to end")


@workflow("tests.edits")
def edits(ctx: JobContext, parameters: dict[str, Any]) -> dict[str, Any]:
    """Writes its own text over a copy of its input, and the same file name as every other variant."""
    staged = ctx.workspace / "input" / "prompt.txt"
    found = staged.read_text()
    if parameters.get("edits"):
        staged.chmod(0o600)
        staged.write_text(parameters["text"])
    (ctx.workspace / "output" / "plots").mkdir()
    (ctx.workspace / "output" / "plots" / "a.csv").write_text(parameters["text"])
    (ctx.workspace / "output" / "left.tmp").write_text("no matter")
    if parameters.get("fails"):
        raise ValueError("after its files were written")
    return {"score": 1, "output": found}


@workflow("tests.threads")
async def threads(ctx: JobContext, parameters: dict[str, Any]) -> dict[str, Any]:
    """Reports from threads of its own, and of the loop's."""
    with ThreadPoolExecutor() as pool:
        pool.submit(ctx.progress, done=1).result()
    await anyio.to_thread.run_sync(lambda: ctx.progress(done=2))
    return {"score": 2}
