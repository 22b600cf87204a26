"""Are `workers`, `contracts` and `infra` ours? Their names are common: a foreign one on the path would shadow ours."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Final

from infra.pool.base import ConfigError

__all__ = ["DISTRIBUTION", "PACKAGES", "ROOT", "check", "version"]

DISTRIBUTION: Final = "jetray"
PACKAGES: Final = ("contracts", "infra", "workers")
ROOT: Final = Path(__file__).resolve().parents[2]
"""The folder that this file's `infra` stands in, and so where the other two must stand."""


def version() -> str:
    """The version of Jetray that is installed here; of a checkout that is not installed, `checkout`."""
    import importlib.metadata  # slow to import, and a child process asks for no version

    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return "checkout"


def check(expected: str | None = None) -> None:
    """Raise `ConfigError` unless all three packages are the ones beside this file, and of version `expected`."""
    for name in PACKAGES:
        _check_place(name)
    if expected is not None and version() != expected:
        raise ConfigError(
            f"jobs would run on jetray {version()} in {ROOT}, and the gateway is jetray {expected}: "
            "install the same version on every node of the Ray cluster"
        )


def _check_place(name: str) -> None:
    ours = ROOT / name / "__init__.py"
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # a module in `sys.modules` that was made by hand has no spec
        spec = None
    if spec is None or spec.origin is None:
        raise ConfigError(
            f"package {name} is not jetray's: Python finds none, or a folder without code; ours is {ours}"
        )
    if Path(spec.origin).resolve() != ours:
        raise ConfigError(
            f"package {name} is not jetray's: Python finds {spec.origin} before {ours}; "
            "rename it, or take its folder off PYTHONPATH and out of the working directory"
        )
