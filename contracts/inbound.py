"""A message in: its three forms, its job id and its input.

A CloudEvent is known by its `ce-specversion` header or its content type; an envelope by its five fields and an object
`payload`, unless the kind itself declares `event_type`; anything else is the bare JSON input.

What does not decode never takes the id that it names: its id is `<stream>-<sequence>`, and what it claimed is kept as
`subject_id`. Only `Jetray-Job-Id`, which is ours alone, holds whatever the body is.
"""

from __future__ import annotations

import math
import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, Final, Generic, TypeVar

import msgspec
from msgspec import Raw, Struct

from contracts import headers as h
from contracts.codec import Undecodable, canonical, check_depth, decode
from contracts.errors import ErrorInfo, Reason, bounded
from contracts.tokens import as_token, is_token

__all__ = ["Accepted", "InputSpec", "Limits", "Message", "Refused", "read", "refuse"]

T = TypeVar("T")
U = TypeVar("U")

_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_ENVELOPE: Final = ("event_type", "idempotency_key", "correlation_id", "timestamp", "producer")
_ORIGIN: Final = re.compile(r"[A-Za-z0-9_-]{1,128}:[1-9][0-9]{0,18}")
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


class InputSpec(Generic[T]):
    """How a kind reads its input.

    `id_field` names the input's field that is the job's id. `not_identity` names top-level fields that do not make two
    inputs different. `declares_event_type` is derived: such a kind is never sent envelopes.
    """

    def __init__(
        self, input_type: Any, *, id_field: str | None = None, not_identity: frozenset[str] = frozenset()
    ) -> None:
        self.type = input_type
        self.id_field = id_field
        self.not_identity = not_identity
        self.fields = _field_names(input_type)
        self.declares_event_type = self.fields is not None and "event_type" in self.fields
        self._decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(input_type)

    def decode(self, body: bytes, *, foreign: bool = False) -> T:
        """The typed input, or `Undecodable`. Of a `foreign` event, fields that the kind does not name are ignored."""
        if foreign and self.fields is not None:
            fields = decode(_objects, body)
            body = msgspec.json.encode({name: raw for name, raw in fields.items() if name in self.fields})
        try:
            return decode(self._decoder, body)
        except Undecodable:
            raise
        except Exception as error:
            # An input type may bring a `__post_init__` that raises anything.
            raise Undecodable(f"{type(error).__name__}: {error}") from error

    def digest(self, value: T) -> str:
        """sha256 in hex over the canonical bytes of what makes the input itself.

        `Undecodable` where the input cannot be encoded again: neither compared nor handed to whatever runs it.
        """
        try:
            return sha256(canonical(value, self.not_identity)).hexdigest()
        except (TypeError, ValueError) as error:
            raise Undecodable(f"the input cannot be encoded again: {error}") from error


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
        return _refused(message, headers, _Claims(), "too_large", "TooLarge", text)
    claims = _Claims()
    try:
        check_depth(message.body, limits.input_depth)
        body = _unwrap(message.body, headers, spec, claims, limits)
        _claim(claims, body, spec)
        ours = _our_headers(headers)
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
    return _refused(message, headers, _Claims(), error.reason, error.type, error.message)


class _Claims(Struct):
    """What a message says it is about, in the order in which it is believed."""

    id_field: str | None = None
    idempotency_key: str | None = None
    ce_id: str | None = None
    correlation: str | None = None

    def first(self) -> str | None:
        return self.id_field or self.idempotency_key or self.ce_id


class _Ours(Struct, frozen=True):
    deadline_s: float | None
    parent: str | None
    index: int
    run: int | None
    origin: str | None


class _Envelope(Struct, frozen=True):
    event_type: str
    idempotency_key: str
    correlation_id: str
    timestamp: str
    producer: str
    payload: Raw


class _CloudEvent(Struct, frozen=True):
    id: str
    specversion: str
    data: Raw = Raw()
    data_base64: str | None = None
    correlationid: str | None = None


_objects: msgspec.json.Decoder[dict[str, Raw]] = msgspec.json.Decoder(dict[str, Raw])
_envelopes = msgspec.json.Decoder(_Envelope)
_cloud_events = msgspec.json.Decoder(_CloudEvent)
_strings: msgspec.json.Decoder[str] = msgspec.json.Decoder(str)


def _unwrap(body: bytes, headers: Mapping[str, str], spec: InputSpec[Any], claims: _Claims, limits: Limits) -> bytes:
    """The bare JSON input within `body`; what the wrapping claims goes into `claims`."""
    if headers.get("content-type", "").partition(";")[0].strip().lower() == h.CLOUDEVENTS_JSON:
        return _unwrap_structured(body, claims, limits)
    if h.CE_SPECVERSION in headers:
        claims.ce_id = headers.get(h.CE_ID)
        claims.correlation = headers.get(h.CE_CORRELATION)
        return body
    if not spec.declares_event_type and _is_envelope(body):
        envelope = decode(_envelopes, body)
        claims.idempotency_key = envelope.idempotency_key
        claims.correlation = envelope.correlation_id
        empty = [name for name in _ENVELOPE if not getattr(envelope, name)]
        if empty:
            raise Undecodable(f"envelope field {empty[0]} is empty")
        return bytes(envelope.payload)
    return body


def _unwrap_structured(body: bytes, claims: _Claims, limits: Limits) -> bytes:
    event = decode(_cloud_events, body)
    claims.ce_id = event.id
    claims.correlation = event.correlationid
    if event.data_base64 is not None:
        try:
            data = b64decode(event.data_base64, validate=True)
        except ValueError as error:
            raise Undecodable("CloudEvent field data_base64 is not base64") from error
        check_depth(data, limits.input_depth)
        return data
    data = bytes(event.data)
    if not data:
        raise Undecodable("CloudEvent has no data")
    return data


def _is_envelope(body: bytes) -> bool:
    # The plain search spares most bodies a second decoding; an escaped key would hide from it.
    if b'"idempotency_key"' not in body and b"\\u" not in body:
        return False
    try:
        fields = decode(_objects, body)
    except Undecodable:
        return False
    return all(name in fields for name in _ENVELOPE) and bytes(fields.get("payload", b"")).startswith(b"{")


def _claim(claims: _Claims, body: bytes, spec: InputSpec[Any]) -> None:
    """Note the kind's own id, also of a body that will not decode as the kind's input."""
    if spec.id_field is None:
        return
    try:
        text = bytes(decode(_objects, body).get(spec.id_field, b"null"))
        # Null names nothing, else all that leave an optional id out in this way would be one job.
        if text != b"null":
            claims.id_field = decode(_strings, text) if text.startswith(b'"') else text.decode()
    except (Undecodable, UnicodeDecodeError):
        return


def _claimed(claims: _Claims, headers: Mapping[str, str]) -> str | None:
    return claims.first() or headers.get(h.MSG_ID.lower()) or None


def _correlation(claims: _Claims, headers: Mapping[str, str]) -> str | None:
    text = claims.correlation or headers.get(h.CORRELATION.lower())
    return bounded(text, _ID_BYTES) if text else None


def _our_headers(headers: Mapping[str, str]) -> _Ours:
    return _Ours(
        deadline_s=_seconds(headers),
        parent=_parent(headers),
        index=_whole(headers, h.INDEX, 0) or 0,
        run=_whole(headers, h.RUN, 1),
        origin=_origin(headers),
    )


def _seconds(headers: Mapping[str, str]) -> float | None:
    text = headers.get(h.DEADLINE.lower())
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise Undecodable(f"header {h.DEADLINE} must be seconds greater than 0, not {text[:50]!r}")
    return value


def _whole(headers: Mapping[str, str], name: str, least: int) -> int | None:
    text = headers.get(name.lower())
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19 and int(text) >= least):
        raise Undecodable(f"header {name} must be a whole number from {least}, not {text[:50]!r}")
    return int(text)


def _parent(headers: Mapping[str, str]) -> str | None:
    text = headers.get(h.PARENT.lower())
    if text is None:
        return None
    kind, _, job_id = text.partition(".")
    if not (is_token(kind) and is_token(job_id)):
        raise Undecodable(f"header {h.PARENT} must be <kind>.<id>, not {text[:50]!r}")
    return text


def _origin(headers: Mapping[str, str]) -> str | None:
    text = headers.get(h.ORIGIN.lower())
    if text is not None and not _ORIGIN.fullmatch(text):
        raise Undecodable(f"header {h.ORIGIN} must be <stream>:<sequence>, not {text[:50]!r}")
    return text


def _traceparent(headers: Mapping[str, str]) -> str | None:
    text = headers.get(h.TRACEPARENT)
    return text if text is not None and _TRACEPARENT.fullmatch(text) else None


def _refused(
    message: Message, headers: Mapping[str, str], claims: _Claims, reason: Reason, name: str, text: str
) -> Refused:
    job_id = headers.get(h.JOB_ID.lower(), "")
    if not is_token(job_id):
        job_id = message.own_id
    claimed = _claimed(claims, headers)
    # Each header by itself: what is wrong with one must not lose a child its parent.
    return Refused(
        job_id=job_id,
        subject_id=None if claimed is None or claimed == job_id else bounded(claimed, _ID_BYTES),
        correlation_id=_correlation(claims, headers) or job_id,
        error=ErrorInfo(reason=reason, type=name, message=bounded(text), retryable=False),
        traceparent=_traceparent(headers),
        parent=_or_none(_parent, headers),
        index=_or_none(lambda found: _whole(found, h.INDEX, 0), headers) or 0,
        run=_or_none(lambda found: _whole(found, h.RUN, 1), headers),
        origin=_or_none(_origin, headers) or message.origin,
    )


def _or_none(parse: Callable[[Mapping[str, str]], U | None], headers: Mapping[str, str]) -> U | None:
    try:
        return parse(headers)
    except Undecodable:
        return None


def _field_names(input_type: Any) -> frozenset[str] | None:
    """The encoded names of the fields of an object-like type; None for any other."""
    info = msgspec.inspect.type_info(input_type)
    fields = getattr(info, "fields", None)
    return None if fields is None else frozenset(field.encode_name for field in fields)
