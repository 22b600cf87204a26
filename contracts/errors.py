"""The error body that events carry, and its reasons."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

__all__ = ["MESSAGE_BYTES", "ErrorInfo", "Reason", "bounded"]

Reason = Literal[
    "user",
    "deadline",
    "lost",
    "decode",
    "too_large",
    "unknown_kind",
    "id_conflict",
    "quorum",
    "config",
    "dependency",
    "cancelled_child",
    "storage",
]
"""Why a job, or an attempt at it, did not succeed.

`user`: the kind's own code raised. `deadline`: it ran out of time. `lost`: whatever ran it died. `decode`, `too_large`:
the message is unusable. `unknown_kind`: nobody knows the kind. `id_conflict`: the id names another input. `quorum`: too
few agents answered. `config`: the operator's settings stand in the way. `dependency`: what it builds on failed.
`cancelled_child`: a child was cancelled. `storage`: an artifact could not be kept.
"""

MESSAGE_BYTES: Final = 2048
"""An error's message is bounded to so many bytes of UTF-8; a traceback never leaves logs and traces."""


class ErrorInfo(Struct, frozen=True, kw_only=True):
    """One failure, as subscribers see it."""

    reason: Reason
    type: str
    """The exception's name."""
    message: str
    """At most 2 KiB."""
    retryable: bool = False
    """Whether another attempt may help. Whether one is made is the attempts' budget to say."""


def bounded(message: str, limit: int = MESSAGE_BYTES) -> str:
    """`message` cut to `limit` bytes of UTF-8, never within a character."""
    raw = message.encode("utf-8", "replace")
    if len(raw) <= limit:
        return raw.decode("utf-8")
    return raw[: limit - 3].decode("utf-8", "ignore") + "…"
