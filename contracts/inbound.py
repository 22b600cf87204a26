"""A message in: its job id and its input, or why it has none.

What does not decode never takes the id that it names: its id is `<stream>-<sequence>`, and what it claimed is kept as
`subject_id`. Only `Jetray-Job-Id`, which is ours alone, holds whatever the body is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from contracts import headers as h
from contracts.codec import Undecodable, check_depth
from contracts.errors import ErrorInfo, Reason, bounded
from contracts.forms import Claims, claim_id, unwrap
from contracts.inputs import InputSpec
from contracts.own_headers import read_own, salvage
from contracts.tokens import as_token, is_token

__all__ = ["Accepted", "InputSpec", "Limits", "Message", "Refused", "read", "refuse"]

_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_ID_BYTES: Final = 512
"""What events repeat of an id that a publisher chose is bounded to so many bytes."""


class Limits(Struct, frozen=True, kw_only=True):
    """What an input may be at most."""

    input_bytes: int = 1024 * 1024
    input_depth: int = 64


class Message(Struct, frozen=True, kw_only=True):
    """A message as it came off the bus."""

    subject: str
    headers: Mapping[str, str]
    body: bytes
    stream: str
    sequence: int

    @property
    def origin(self) -> str:
        """`<stream>:<sequence>`."""
        return f"{self.stream}:{self.sequence}"

    @property
    def own_id(self) -> str:
        """`<stream>-<sequence>`: the id of a message that has no other."""
        return f"{self.stream}-{self.sequence}"


class Accepted(Struct, frozen=True, kw_only=True):
    """A message that names a job."""

    job_id: str
    subject_id: str | None
    correlation_id: str
    input: Any
    input_sha256: str
    deadline_s: float | None
    traceparent: str | None
    parent: str | None
    index: int
    run: int | None
    """The run that a replayed message opens; None on a first publication."""
    origin: str


class Refused(Struct, frozen=True, kw_only=True):
    """A message that does not decode."""

    job_id: str
    subject_id: str | None
    correlation_id: str
    error: ErrorInfo
    traceparent: str | None
    parent: str | None
    index: int
    run: int | None
    origin: str


def read(message: Message, spec: InputSpec[Any], limits: Limits, *, foreign: bool) -> Accepted | Refused:
    """What `message` asks of the kind that `spec` describes. Size is checked before depth, depth before decoding."""
    headers = {name.lower(): value for name, value in message.headers.items()}
    if len(message.body) > limits.input_bytes:
        size, limit = len(message.body), limits.input_bytes
        text = f"the input has {size} bytes, the limit is {limit} (setting limits.input_bytes)"
        return _refused(message, headers, Claims(), "too_large", "TooLarge", text)
    claims = Claims()
    try:
        check_depth(message.body, limits.input_depth)
        body = unwrap(message.body, headers, spec, claims, limits.input_depth)
        claim_id(claims, body, spec)
        ours = read_own(headers)
        value = spec.decode(body, foreign=foreign)
        digest = spec.digest(value)
    except Undecodable as error:
        return _refused(message, headers, claims, "decode", "Undecodable", str(error))
    claimed = _claimed(claims, headers) or message.own_id
    job_id = as_token(headers.get(h.JOB_ID.lower()) or claimed)
    return Accepted(
        job_id=job_id,
        subject_id=None if job_id == claimed else bounded(claimed, _ID_BYTES),
        correlation_id=_correlation(claims, headers) or job_id,
        input=value,
        input_sha256=digest,
        deadline_s=ours.deadline_s,
        traceparent=_traceparent(headers),
        parent=ours.parent,
        index=ours.index,
        run=ours.run,
        origin=ours.origin or message.origin,
    )


def refuse(message: Message, error: ErrorInfo) -> Refused:
    """The refusal of a message for a reason found elsewhere, as by a decoder's death."""
    headers = {name.lower(): value for name, value in message.headers.items()}
    return _refused(message, headers, Claims(), error.reason, error.type, error.message)


def _claimed(claims: Claims, headers: Mapping[str, str]) -> str | None:
    return claims.first() or headers.get(h.JOB_ID.lower()) or headers.get(h.MSG_ID.lower()) or None


def _correlation(claims: Claims, headers: Mapping[str, str]) -> str | None:
    text = claims.correlation or headers.get(h.CORRELATION.lower())
    return bounded(text, _ID_BYTES) if text else None


def _traceparent(headers: Mapping[str, str]) -> str | None:
    text = headers.get(h.TRACEPARENT)
    return text if text is not None and _TRACEPARENT.fullmatch(text) else None


def _refused(
    message: Message, headers: Mapping[str, str], claims: Claims, reason: Reason, name: str, text: str
) -> Refused:
    job_id = headers.get(h.JOB_ID.lower(), "")
    if not is_token(job_id):
        job_id = message.own_id
    claimed = _claimed(claims, headers)
    ours = salvage(headers)
    return Refused(
        job_id=job_id,
        subject_id=None if claimed is None or claimed == job_id else bounded(claimed, _ID_BYTES),
        correlation_id=_correlation(claims, headers) or job_id,
        error=ErrorInfo(reason=reason, type=name, message=bounded(text), retryable=False),
        traceparent=_traceparent(headers),
        parent=ours.parent,
        index=ours.index,
        run=ours.run,
        origin=ours.origin or message.origin,
    )
