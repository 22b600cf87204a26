"""For the places where jobs run: build the host, and run one call on it, so that every pool answers the same."""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import anyio
import msgspec

from contracts.calls import Call, Frame, Gone, Outcome, Ran, Reported, decode_reply, encode
from contracts.errors import ErrorInfo
from infra.pool.actor import lost, unfit
from infra.pool.base import Host, HostSpec

__all__ = ["build_host", "execute", "is_report", "one_by_one", "sealed", "unsealed"]

LEAST_S: Final = 0.001
"""What a call whose time has passed gets: enough to find that out."""

_log = logging.getLogger("jetray.pool")


def build_host(spec: HostSpec) -> Host | ErrorInfo:
    """The host that `spec` describes, or why there is none."""
    module, _, attribute = spec.factory.partition(":")
    try:
        host: Host = getattr(importlib.import_module(module), attribute)(spec.config)
    except Exception as error:  # noqa: BLE001 - modules of kinds run here: whatever they raise is the answer
        _log.exception("the host %s cannot be built", spec.factory)
        return unfit(type(error).__name__, str(error) or type(error).__name__)
    return host


async def execute(host: Host, call: Call, send: Callable[[Frame], None]) -> Outcome:
    """Run the call to its outcome. A host that breaks, or a job that calls `sys.exit`, loses this attempt alone."""
    try:
        return await host.execute(call, send)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        # Nobody cancelled this task: the job awaited one that it had cancelled itself.
        return Gone(error=lost("CancelledError", f"{call.job} let a cancellation of its own escape"))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the host is not ours to know
        # SystemExit would otherwise end the event loop under every other job of the actor.
        _log.exception("the host broke over %s", call.job)
        return Gone(error=lost(type(error).__name__, f"what runs {call.kind} broke: {error}"))


async def one_by_one(calls: Sequence[Call], run: Callable[[Call], Awaitable[Outcome]]) -> Ran:
    """Run calls one after the other. What each waited for its turn is gone from its time."""
    began = anyio.current_time()
    outcomes: list[Outcome] = []
    for call in calls:
        left_s = max(LEAST_S, call.timeout_s - (anyio.current_time() - began))
        outcomes.append(await run(msgspec.structs.replace(call, timeout_s=left_s)))
    return Ran(outcomes, anyio.current_time() - began)


def sealed(frame: Frame) -> bytes:
    """The frame's bytes. Raises in the job's own code where the other side could not read them."""
    data = encode(frame)
    decode_reply(data)
    return data


def unsealed(data: bytes) -> Frame:
    """The frame that `sealed` made `data` of."""
    frame = decode_reply(data)
    if not isinstance(frame, Frame):
        raise TypeError(f"{type(frame).__name__} is no frame")
    return frame


def is_report(frame: Frame) -> bool:
    """Whether a newer report makes this one old news."""
    return isinstance(frame, Reported)
