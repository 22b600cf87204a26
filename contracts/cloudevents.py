"""CloudEvents in binary mode: the headers that stand beside the JSON body of whatever we say."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache

from contracts import codec
from contracts import headers as h

__all__ = ["binary_headers"]


def binary_headers(*, event_type: str, gateway: str, event_id: str, subject: str, time: datetime) -> dict[str, str]:
    """Headers of one event; its id is its `Nats-Msg-Id` too, so that written twice it is stored once."""
    return {
        h.CE_SPECVERSION: "1.0",
        h.CE_TYPE: event_type,
        h.CE_SOURCE: f"/jetray/{gateway}",
        h.CE_ID: event_id,
        h.CE_SUBJECT: subject,
        h.CE_TIME: _written(time),
        h.CONTENT_TYPE: h.JSON,
        h.MSG_ID: event_id,
    }


@lru_cache(maxsize=16)
def _written(time: datetime) -> str:
    """As RFC 3339. What is said of many jobs at once is said at one time."""
    return codec.encode(time)[1:-1].decode()
