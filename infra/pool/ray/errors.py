"""Ray's exceptions as what they mean for a job."""

from __future__ import annotations

import re

from ray.exceptions import (
    ActorDiedError,
    ActorUnschedulableError,
    RayError,
    RayTaskError,
    RuntimeEnvSetupError,
)

from contracts.errors import ErrorInfo
from infra.pool.actor import lost, unfit

__all__ = ["meaning"]

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def meaning(error: RayError) -> ErrorInfo:
    """Lost, or not fit to run.

    An actor that cannot be built, placed, or given its `runtime_env` is the operator's to repair. All else is lost:
    the actor died (`ActorDiedError`), its process (`WorkerCrashedError`), its node (`NodeDiedError`), its memory was
    too little (`OutOfMemoryError`), or nobody knows (`ActorUnavailableError`).
    """
    match error:
        case ActorDiedError() if error.actor_init_failed:
            return _not_built(error)
        case RuntimeEnvSetupError() | ActorUnschedulableError():
            return unfit(type(error).__name__, _line(error))
    return lost(type(error).__name__, _line(error))


def _not_built(error: ActorDiedError) -> ErrorInfo:
    """Named by what its `__init__`, or the import of its class, raised."""
    cause = next((arg.cause for arg in error.args if isinstance(arg, RayTaskError)), None)
    if cause is None:
        return unfit(type(error).__name__, _line(error))
    line = _line(cause)
    if "failed to import on the worker" in line:
        what = line.rpartition(": ")[2]
        return unfit(
            "ImportError",
            f"jetray cannot be imported where actors run: {what}; it is not installed there, or another package of the "
            "name comes before it (Ray's workers look into the gateway's working directory first)",
        )
    return unfit(type(cause).__name__, line)


def _line(error: BaseException) -> str:
    """Its text in one line and without tracebacks, which belong into a log."""
    before, traceback, after = _COLOUR.sub("", str(error) or type(error).__name__).partition("Traceback (most recent")
    if traceback:
        # Stack frames are indented, and what was raised is not; of several tracebacks the last one is the outcome.
        lines = after.rstrip().splitlines()
        last_frame = max(number for number, line in enumerate(lines) if number == 0 or line.startswith(" "))
        before += " ".join(lines[last_frame + 1 :])
    return " ".join(before.split())
