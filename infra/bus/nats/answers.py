"""What JetStream's JSON says, as values and errors."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from msgspec import Struct
from nats.aio.msg import Msg

from infra.bus.base import (
    ConsumerState,
    Delivery,
    NoSuchSubject,
    PubAck,
    Refused,
    Stored,
    StreamFull,
    WrongSequence,
)

__all__ = ["ApiError", "answer", "consumer_state", "delivery", "parse_headers", "pub_ack", "stored"]

STREAM_FULL: Final = frozenset({10077, 10023})
"""The stream has no room, or the server's disk has none for it."""
WRONG_SEQUENCE: Final = frozenset({10071, 10164, 10158})
NO_MESSAGE: Final = 10037
"""There is no such message."""

_FRACTION: Final = re.compile(r"\.(\d{6})\d+")


class ApiError(Struct, frozen=True):
    """The `error` of an answer."""

    code: int = 0
    err_code: int = 0
    description: str = ""

    def raised(self) -> Refused:
        """The error to raise."""
        kind = (
            StreamFull
            if self.err_code in STREAM_FULL
            else WrongSequence
            if self.err_code in WRONG_SEQUENCE
            else Refused
        )
        return kind(self.code, self.err_code, self.description)


class _PubAck(Struct, frozen=True):
    error: ApiError | None = None
    stream: str = ""
    seq: int = 0
    duplicate: bool = False


class _StoredMessage(Struct, frozen=True):
    subject: str
    seq: int
    time: str
    hdrs: str = ""
    data: str = ""


class _Failure(Struct, frozen=True):
    error: ApiError | None = None


_pub_acks = msgspec.json.Decoder(_PubAck)
_failures = msgspec.json.Decoder(_Failure)
_any = msgspec.json.Decoder()


def pub_ack(message: Msg) -> PubAck:
    """The server's word on a publish; raises `Refused` and its kin."""
    if message.headers and message.headers.get("Status") == "503":
        raise NoSuchSubject(503, 0, "no stream takes this subject")
    ack = _pub_acks.decode(message.data)
    if ack.error is not None:
        raise ack.error.raised()
    return PubAck(stream=ack.stream, sequence=ack.seq, duplicate=ack.duplicate)


def answer(message: Msg) -> dict[str, Any]:
    """The JSON of an API answer; raises `Refused`."""
    if message.headers and message.headers.get("Status") == "503":
        raise Refused(503, 0, "JetStream is not there (no responders)")
    failure = _failures.decode(message.data)
    if failure.error is not None:
        raise failure.error.raised()
    value: dict[str, Any] = _any.decode(message.data)
    return value


def stored(message: Msg) -> Stored:
    """The message that an answer to `STREAM.MSG.GET` holds."""
    found = msgspec.convert(answer(message)["message"], _StoredMessage)
    return Stored(
        subject=found.subject,
        sequence=found.seq,
        headers=parse_headers(b64decode(found.hdrs)),
        body=b64decode(found.data),
        time=_time(found.time),
    )


def parse_headers(raw: bytes) -> dict[str, str]:
    """Headers from their wire form. Of a name given twice the last value counts, as on delivery."""
    headers: dict[str, str] = {}
    for line in raw.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            headers[name.decode("utf-8", "replace")] = value.strip().decode("utf-8", "replace")
    return headers


def delivery(message: Msg) -> Delivery:
    """A delivery from a message and its reply subject.

    `$JS.ACK.<stream>.<consumer>.<delivered>.<sequence>.<consumer sequence>.<nanoseconds>.<pending>`, or with domain,
    account hash and a random token around it.
    """
    tokens = message.reply.split(".")
    start = 2 if len(tokens) < 11 else 4
    stream, consumer, number, sequence, _, nanoseconds, pending = tokens[start : start + 7]
    return Delivery(
        subject=message.subject,
        headers=message.headers or {},
        body=message.data,
        stream=stream,
        consumer=consumer,
        sequence=int(sequence),
        number=int(number),
        stored=datetime.fromtimestamp(int(nanoseconds) / 1e9, UTC),
        pending=int(pending),
        token=message.reply,
    )


def from_follow(message: Msg) -> Stored:
    """A message of an acknowledgement-free consumer."""
    arrived = delivery(message)
    return Stored(
        subject=arrived.subject,
        sequence=arrived.sequence,
        headers=arrived.headers,
        body=arrived.body,
        time=arrived.stored,
    )


def consumer_state(info: Mapping[str, Any]) -> ConsumerState:
    """A consumer's figures from its info."""
    return ConsumerState(
        waiting=info["num_pending"],
        unacknowledged=info["num_ack_pending"],
        redelivered=info.get("num_redelivered", 0),
        paused=info.get("paused", False),
        config=info["config"],
    )


def _time(text: str) -> datetime:
    # RFC 3339 with nanoseconds, which datetime does not take.
    return datetime.fromisoformat(_FRACTION.sub(r".\1", text))


def server_time(value: Mapping[str, Any]) -> datetime | None:
    """The server's clock, where an answer tells it."""
    return _time(value["ts"]) if "ts" in value else None
