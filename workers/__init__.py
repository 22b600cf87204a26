"""Jetray: events on a NATS bus become work on a Ray cluster, and work becomes events.

General layout:

    core/       pure decisions about a job: no I/O, no clock, no randomness
    runtime/    the gateway: intake, dispatch, lease, settle, join
    kinds/      what runs in actors: registry, context, host, and the kinds that ship
    hosting     builds the host where jobs run, and gives it stores
    settings    one frozen, validated `Settings`
    launcher    the command `jetray`
    testing     run a kind, or a whole gateway, without NATS or Ray

A kind of your own needs only what is named here:

    from workers import job, JobContext, Retry, Fail
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contracts.batch import VariantResult
    from workers.kinds.context import JobContext
    from workers.kinds.registry import Child, ChildEnd, Fail, Retry, batch, job
    from workers.kinds.workflow import workflow

__all__ = ["Child", "ChildEnd", "Fail", "JobContext", "Retry", "VariantResult", "batch", "job", "workflow"]

_ELSEWHERE = {
    "JobContext": "workers.kinds.context",
    "VariantResult": "contracts.batch",
    "workflow": "workers.kinds.workflow",
}


def __getattr__(name: str) -> Any:
    # Not at import: `python -m workers` comes through here before it can tell that a foreign `contracts` is in the way.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_ELSEWHERE.get(name, "workers.kinds.registry")), name)
