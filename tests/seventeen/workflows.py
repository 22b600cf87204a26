"""What the batches of the scenes try: plain functions, as a user writes them."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

__all__ = ["CURVE", "curve", "digest", "peak", "score"]

CURVE = "curve.csv"
LOOK_S = 0.02


def score(parameters: dict[str, Any], ctx: Any) -> dict[str, Any]:
    """How high a curve is at `x`. It may be told to fail, to leave what cannot be tracked, or to wait for a file."""
    if parameters.get("fails"):
        raise ValueError(f"there is no curve at {parameters['x']}")
    if until := parameters.get("until"):
        while not Path(until).exists() and not ctx.cancelled:
            time.sleep(LOOK_S)
    output = Path(ctx.workspace)
    (output / CURVE).write_bytes(curve(parameters["x"]))
    (output / "notes.txt").write_text("no pattern asks for this")
    return {"score": peak(parameters["x"]), "metrics": {"x": parameters["x"]}}


def peak(x: float) -> float:
    """What `score` gives for x: most at 3."""
    return 10.0 - (x - 3.0) ** 2


def curve(x: float) -> bytes:
    """What `score` writes for x."""
    return "".join(f"{step},{peak(x) * step}\n" for step in range(10)).encode()


def digest(x: float) -> str:
    """The sha256 of that, in hex."""
    return hashlib.sha256(curve(x)).hexdigest()
