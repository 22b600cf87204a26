"""What a kind's code says by value: how an attempt ends, and which children a batch has."""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec

from contracts.errors import ErrorInfo
from contracts.events import Cancelled, Completed, Failed

__all__ = ["Child", "ChildEnd", "Fail", "FailReason", "Retry"]

FailReason = Literal["user", "quorum", "config", "deadline", "dependency", "cancelled_child", "storage"]
"""What a kind may give as the reason of its failure."""


class Retry(Exception):
    """Try again, after `after` seconds or when the policy says. Returned or raised, it spends an attempt.

    Raises `ValueError` for an `after` that is no time to wait: negative, infinite or no number.
    """

    def __init__(self, message: str, *, after: float | None = None) -> None:
        super().__init__(message)
        if after is not None and not 0 <= after < math.inf:
            raise ValueError(f"Retry: after must be a number of seconds, 0 or more, not {after!r}")
        self.after = after


class Fail(Exception):
    """Do not try again: the job has failed. Returned or raised."""

    def __init__(self, message: str, *, reason: FailReason = "user") -> None:
        super().__init__(message)
        self.reason = reason


class Child(msgspec.Struct, frozen=True, kw_only=True):
    """One job of a batch, as its `expand` asks for it."""

    key: str
    """Unique within the batch; the child's id is `<batch id>-<key>`."""
    kind: str
    input: Any


class ChildEnd(msgspec.Struct, frozen=True, kw_only=True):
    """How one child ended, as its batch's `reduce` sees it."""

    child: Child
    job_id: str
    outcome: Literal["completed", "failed", "cancelled", "refused"]
    event: Completed | Failed | Cancelled | None
    """The terminal event; None for a refused child, or one whose event is no longer kept."""
    error: ErrorInfo | None
    """Why it did not complete."""
