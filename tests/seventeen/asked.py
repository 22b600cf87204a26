"""What the scenes ask for: settings and inputs. What is told of them must fit."""

from __future__ import annotations

from typing import Any, Final

__all__ = [
    "BROKEN",
    "CALLED_OFF",
    "FOLDER",
    "HELD",
    "HIGH",
    "LAST",
    "LINKED",
    "LOW",
    "MEMORY",
    "SETTINGS",
    "VARIANTS",
    "WHOLE",
]

FOLDER: Final = "SEVENTEEN_FOLDER"
"""The environment variable that names the folder of the files that jobs wait for."""
HIGH: Final = 6
LOW: Final = 2
HELD: Final = 12
"""Jobs that are published at once into a queue whose high watermark is half of that."""
MEMORY: Final = 64 * 1024**2

SETTINGS: Final = f"""
routes = []

[kinds]
modules = ["tests.seventeen.kinds", "tests.seventeen.workflows"]
[kinds.settings.hold]
high = {HIGH}
low = {LOW}

[gateway]
grace_s = 2

[retry]
base_s = 0.1

[profiles.default]
actors = 2
cpus = 0

[profiles.narrow]
actors = 1
cpus = 0
memory = {MEMORY}
concurrency = 1
"""

VARIANTS: Final = {"low": 1.0, "near": 2.5, "best": 3.0, "far": 6.0}
"""Of the batch that completes, with the place of each on the curve."""
LAST: Final = "far"
"""The variant that waits until the others have ended."""


def _batch(batch_id: str, variants: dict[str, dict[str, Any]], **more: Any) -> dict[str, Any]:
    listed = [{"name": name, "parameters": parameters} for name, parameters in variants.items()]
    return {"batch_id": batch_id, "workflow": "height", "variants": listed, "parallelism": 2, **more}


WHOLE: Final = _batch(
    "whole",
    {name: {"x": x, "until": "the-others-have-ended" if name == LAST else ""} for name, x in VARIANTS.items()},
    policy="all",
    files={"include": ["*.csv"], "exclude": [], "max_bytes": 1_000_000},
)
BROKEN: Final = _batch(
    "broken", {"bad": {"x": 1.0, "fails": True}, "good": {"x": 2.0, "until": "never"}}, policy="fail_fast"
)
CALLED_OFF: Final = _batch("called-off", {"quick": {"x": 1.0}, "endless": {"x": 2.0, "until": "never"}})
LINKED: Final = _batch("linked", {"astray": {"x": 1.0, "links": True}}, files={"include": ["*.csv"]})
