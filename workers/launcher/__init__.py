"""The command `jetray`, also `python -m workers`.

General layout:

    cli         the commands, their options and their help
    exits       which error becomes which exit status, in one line
    worker      the gateway alone: `jetray worker`
    up          nats-server and the gateway, kept alive: `jetray up`
    demo        one plan through a stack of its own: `jetray demo`; demo_view shows it
    stack       nats-server and the gateway as services, started and stopped in order
    supervise   keeps a service alive
    upkeep      `jetray apply` and `jetray asyncapi`
    scaffold    `jetray new kind`
    tryout      `jetray try`

Commands import what they need when they run: `jetray --help` needs neither Ray nor NATS, and `jetray demo` starts its
children before it imports anything that takes time.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

__all__ = ["main"]

OURS: Final = Path(__file__).resolve().parents[2]
PACKAGES: Final = ("contracts", "infra", "workers")
_CONFIG: Final = 78


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (the process's own unless given) and return its exit status."""
    foreign = _shadowed(Path.cwd()) or _found_first()
    if foreign is not None:
        print(f"jetray: {foreign} would stand in for Jetray's own: rename it, or start elsewhere", file=sys.stderr)
        return _CONFIG
    # As `python -m` does: modules of kinds that stand in this directory can be imported, here and in actors alike.
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.insert(0, os.getcwd())
    from workers.launcher import exits
    from workers.launcher.cli import app

    try:
        return int(app(sys.argv[1:] if arguments is None else arguments, result_action="return_value") or exits.OK)
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except Exception as error:
        ending = exits.of(error)
        if ending is None:
            raise
        print(f"jetray: {ending.line}", file=sys.stderr)
        return ending.status


def _shadowed(directory: Path) -> Path | None:
    """A package in `directory` that our children, which look there first, would take for one of ours."""
    if directory.resolve() == OURS:
        return None
    candidates = (directory / name for package in PACKAGES for name in _spellings(package))
    return next((path for path in candidates if path.exists()), None)


def _found_first() -> Path | None:
    """A package that Python finds before ours, as by PYTHONPATH. Found out before anything of ours is imported."""
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        origin = None if spec is None or spec.origin is None else Path(spec.origin).resolve()
        if origin != OURS / package / "__init__.py":
            return origin or Path(package)
    return None


def _spellings(package: str) -> tuple[str, str]:
    return f"{package}/__init__.py", f"{package}.py"
