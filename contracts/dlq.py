"""Dead letters on `dlq.<kind>.<job_id>`: the original body, and headers that tell where it came from and why."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from contracts import headers as h
from contracts.errors import Reason

__all__ = ["dead_headers", "message_id", "original_headers"]

_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""What clients send as the name of a header. They hand out others too, and would not send the copy."""


def message_id(stream: str, sequence: int, reason: Reason) -> str:
    """The `Nats-Msg-Id` of a dead letter: written twice, it is stored once."""
    return f"{stream}-{sequence}.{reason}"


def dead_headers(
    *,
    kind: str,
    job_id: str,
    run: int,
    reason: Reason,
    attempts: int,
    stream: str,
    sequence: int,
    subject: str,
    original: Mapping[str, str],
) -> dict[str, str]:
    """Headers of a dead letter. Each original header is kept under `Jetray-Header-<name>`, if one may be named so."""
    headers = {
        h.MSG_ID: message_id(stream, sequence, reason),
        h.KIND: kind,
        h.JOB_ID: job_id,
        h.RUN: str(run),
        h.REASON: reason,
        h.ATTEMPTS: str(attempts),
        h.ORIGIN: f"{stream}:{sequence}",
        h.ORIGIN_SUBJECT: subject,
    }
    for name, value in original.items():
        if _NAME.fullmatch(name):
            headers[h.ORIGINAL_PREFIX + name] = value.replace("\r", " ").replace("\n", " ")
    return headers


def original_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that the message had before it was buried."""
    size = len(h.ORIGINAL_PREFIX)
    return {name[size:]: value for name, value in headers.items() if name.startswith(h.ORIGINAL_PREFIX)}
