"""What the batches of the scenes try: plain functions, as a user writes them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from msgspec import Struct

from tests.seventeen.asked import FOLDER
from workers import JobContext, workflow

__all__ = ["ASTRAY", "CURVE", "Point", "curve", "peak", "score"]

ASTRAY = "astray.csv"
CURVE = "curve.csv"
LOOK_S = 0.02


class Point(Struct):
    """A variant's parameters."""

    x: float
    fails: bool = False
    until: str = ""
    """A file to wait for."""
    links: bool = False
    """Leave a link, which cannot be tracked."""


@workflow("height")
def score(ctx: JobContext, point: Point) -> dict[str, Any]:
    """How high a curve is at `x`, and the curve itself as a file."""
    if point.fails:
        raise ValueError(f"there is no curve at {point.x}")
    while point.until and not (Path(os.environ[FOLDER]) / point.until).exists() and not ctx.cancelled:
        time.sleep(LOOK_S)
    output = ctx.workspace / "output"
    (output / CURVE).write_bytes(curve(point.x))
    (output / "notes.txt").write_text("no pattern asks for this")
    if point.links:
        (output / ASTRAY).symlink_to(CURVE)
    return {"score": peak(point.x), "metrics": {"x": point.x}}


def peak(x: float) -> float:
    """What `score` gives for x: most at 3."""
    return 10.0 - (x - 3.0) ** 2


def curve(x: float) -> bytes:
    """What `score` writes for x."""
    return "".join(f"{step},{peak(x) * step}\n" for step in range(10)).encode()
