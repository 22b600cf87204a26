"""Jetray: events on a NATS bus become work on a Ray cluster, and work becomes events.

General layout:

    core/       pure decisions about a job: no I/O, no clock, no randomness
    runtime/    the gateway: intake, dispatch, lease, settle, join
    kinds/      what runs in actors: registry, context, host, and the kinds that ship
    settings    one frozen, validated `Settings`
    launcher    the command `jetray`
    testing     run a kind, or a whole gateway, without NATS or Ray

A kind of your own needs only what is named here:

    from workers import job, JobContext, Retry, Fail
"""

from workers.kinds.context import JobContext
from workers.kinds.registry import Child, ChildEnd, Fail, Retry, batch, job

__all__ = ["Child", "ChildEnd", "Fail", "JobContext", "Retry", "batch", "job"]
