"""The three forms of a message in: CloudEvent, envelope, bare JSON input.

A CloudEvent is known by its `ce-specversion` header or its content type; an envelope by its five fields and an object
`payload`, unless the kind itself declares `event_type`; anything else is the bare JSON input.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from contracts import headers as h
from contracts.codec import Undecodable, check_depth, decode
from contracts.inputs import InputSpec

__all__ = ["Claims", "claim_id", "unwrap"]

_ENVELOPE: Final = ("event_type", "idempotency_key", "correlation_id", "timestamp", "producer")


class Claims(Struct):
    """What a message says it is about, in the order in which it is believed."""

    id_field: str | None = None
    idempotency_key: str | None = None
    ce_id: str | None = None
    correlation: str | None = None

    def first(self) -> str | None:
        """The claim that is believed."""
        return self.id_field or self.idempotency_key or self.ce_id


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


def unwrap(body: bytes, headers: Mapping[str, str], spec: InputSpec[Any], claims: Claims, input_depth: int) -> bytes:
    """The bare JSON input within `body`; what the wrapping claims goes into `claims`."""
    if headers.get("content-type", "").partition(";")[0].strip().lower() == h.CLOUDEVENTS_JSON:
        return _unwrap_structured(body, claims, input_depth)
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


def _unwrap_structured(body: bytes, claims: Claims, input_depth: int) -> bytes:
    event = decode(_cloud_events, body)
    claims.ce_id = event.id
    claims.correlation = event.correlationid
    if event.data_base64 is not None:
        try:
            data = b64decode(event.data_base64, validate=True)
        except ValueError as error:
            raise Undecodable("CloudEvent field data_base64 is not base64") from error
        check_depth(data, input_depth)
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


def claim_id(claims: Claims, body: bytes, spec: InputSpec[Any]) -> None:
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
