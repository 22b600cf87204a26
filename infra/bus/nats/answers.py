"""What JetStream's JSON says, as values and errors.

An answer that cannot be read is no answer: `NoAnswer`, since nobody knows what became of the request.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import msgspec
from msgspec import Meta, Struct
from nats.aio.msg import Msg

from contracts.codec import Undecodable, decode
from infra.bus.base import (
    ConsumerState,
    Delivery,
    NoAnswer,
    NoSuchSubject,
    PubAck,
    Refused,
    Stored,
    StreamFull,
    WrongSequence,
)

if TYPE_CHECKING:
    from infra.bus.nats.client import Arrived

__all__ = [
    "ApiError",
    "answer",
    "confirmed",
    "consumer_sequence",
    "consumer_state",
    "delivery",
    "delivery_again",
    "done_with",
    "parse_headers",
    "pub_ack",
    "server_time",
    "stored",
]

STREAM_FULL: Final = frozenset({10077, 10023})
"""The stream has no room, or the server's disk has none for it."""
WRONG_SEQUENCE: Final = frozenset({10071, 10164, 10158})
NO_MESSAGE: Final = 10037
"""There is no such message."""
NO_LEADER: Final = 10008
"""The servers of a cluster have chosen no leader yet, or too few of them are there."""

_REPLY: Final = re.compile(
    r"\$JS\.ACK\.(?:[^.]+\.[^.]+\.)?([^.]+)\.([^.]+)\.([1-9]\d{0,18})"
    r"\.([1-9]\d{0,18})\.(\d{1,19})\.(\d{1,19})\.(\d{1,19})(?:\.[^.]+)?",
    re.ASCII,
)

T = TypeVar("T")
Count = Annotated[int, Meta(ge=0)]
Ordinal = Annotated[int, Meta(ge=1)]
Time = Annotated[datetime, Meta(tz=True)]
"""RFC 3339 with nanoseconds, of which microseconds are kept."""


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
    seq: Ordinal
    time: Time
    hdrs: bytes = b""
    data: bytes = b""


class _StoredAnswer(Struct, frozen=True):
    message: _StoredMessage


class _Failure(Struct, frozen=True):
    error: ApiError | None = None


class _ConsumerInfo(Struct, frozen=True):
    num_pending: Count
    num_ack_pending: Count
    config: dict[str, Any]
    num_redelivered: Count = 0
    paused: bool = False


class DoneWith(Struct, frozen=True):
    """How far a consumer has done with its subject."""

    floor: int
    """Every message up to here is acknowledged."""
    subject: str


class _AckFloor(Struct, frozen=True):
    stream_seq: Count


class _Filter(Struct, frozen=True):
    filter_subject: str


class _Floor(Struct, frozen=True):
    ack_floor: _AckFloor
    config: _Filter


class _Clock(Struct, frozen=True):
    ts: Time | None = None


_pub_acks = msgspec.json.Decoder(_PubAck)
_failures = msgspec.json.Decoder(_Failure)
_objects: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])
_stored_answers = msgspec.json.Decoder(_StoredAnswer)


def pub_ack(message: Msg | Arrived) -> PubAck:
    """The server's word on a publish; raises `Refused` and its kin, and `NoAnswer`."""
    if message.headers and message.headers.get("Status") == "503":
        raise NoSuchSubject(503, 0, "no stream takes this subject")
    ack = _readable(_pub_acks, message)
    if ack.error is not None:
        raise ack.error.raised()
    if not ack.stream or ack.seq < 1:
        raise NoAnswer("the server's answer names no stream and sequence")
    return PubAck(stream=ack.stream, sequence=ack.seq, duplicate=ack.duplicate)


def answer(message: Msg | Arrived) -> dict[str, Any]:
    """The JSON of an API answer; raises `Refused` and `NoAnswer`."""
    _check(message)
    return _readable(_objects, message)


def confirmed(message: Msg | Arrived) -> None:
    """Whoever keeps the consumer has heard; raises `NoAnswer` where nobody keeps it just now."""
    if message.headers and message.headers.get("Status") == "503":
        raise NoAnswer("nobody leads the consumer (no responders)")


def stored(message: Msg | Arrived) -> Stored:
    """The message that an answer to `STREAM.MSG.GET` holds; raises `Refused` and `NoAnswer`."""
    _check(message)
    found = _readable(_stored_answers, message).message
    return Stored(
        subject=found.subject,
        sequence=found.seq,
        headers=parse_headers(found.hdrs),
        body=found.data,
        time=found.time,
    )


def _check(message: Msg | Arrived) -> None:
    if message.headers and message.headers.get("Status") == "503":
        raise Refused(503, 0, "JetStream is not there (no responders)")
    failure = _readable(_failures, message)
    if failure.error is not None and failure.error.err_code == NO_LEADER:
        raise NoAnswer(failure.error.description)
    if failure.error is not None:
        raise failure.error.raised()


def _readable(decoder: msgspec.json.Decoder[T], message: Msg | Arrived) -> T:
    try:
        return decode(decoder, message.data)
    except Undecodable as error:
        raise NoAnswer(f"the server's answer cannot be read: {error}") from error


def parse_headers(raw: bytes) -> dict[str, str]:
    """Headers from their wire form, as on delivery: of a name given twice the last value counts, odd names are not."""
    headers: dict[str, str] = {}
    for line in raw.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        name = name.strip()
        if colon and name.isascii() and not any(map(str.isspace, name.decode("ascii"))):
            headers[name.decode("ascii")] = value.strip().decode("utf-8", "replace")
    return headers


def delivery(message: Msg | Arrived) -> Delivery:
    """A delivery from a message and its reply subject; `ValueError` where that is none of JetStream's.

    `$JS.ACK.<stream>.<consumer>.<delivered>.<sequence>.<consumer sequence>.<nanoseconds>.<pending>`, or with domain,
    account hash and a random token around it.
    """
    stream, consumer, number, sequence, _, nanoseconds, pending = _parts(message)
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


def consumer_sequence(message: Msg | Arrived) -> int:
    """The how-manieth delivery of its consumer a message is; `ValueError` as for `delivery`."""
    return int(_parts(message)[4])


def _parts(message: Msg | Arrived) -> Sequence[str]:
    """Stream, consumer, the how-manieth delivery of the message, its sequence, the consumer's, when, and what waits."""
    found = _REPLY.fullmatch(message.reply)
    if found is None:
        raise ValueError(f"{message.reply[:200]!r} is no reply subject of JetStream's")
    return found.groups()


def from_follow(message: Msg | Arrived) -> Stored:
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
    """A consumer's figures from its info; raises `NoAnswer`."""
    found = _converted(info, _ConsumerInfo)
    return ConsumerState(
        waiting=found.num_pending,
        unacknowledged=found.num_ack_pending,
        redelivered=found.num_redelivered,
        paused=found.paused,
        config=found.config,
    )


def done_with(info: Mapping[str, Any]) -> DoneWith:
    """How far a consumer is, from its info; raises `NoAnswer`."""
    found = _converted(info, _Floor)
    return DoneWith(found.ack_floor.stream_seq, found.config.filter_subject)


def delivery_again(found: Stored, stream: str, consumer: str) -> Delivery:
    """A stored message as if it had come to a consumer.

    Of what an acknowledgement's subject says the server heeds the stream's sequence alone, where nobody has the
    message in hand.
    """
    nanoseconds = int(found.time.timestamp() * 1e9)
    return Delivery(
        subject=found.subject,
        headers=found.headers,
        body=found.body,
        stream=stream,
        consumer=consumer,
        sequence=found.sequence,
        number=1,
        stored=found.time,
        pending=0,
        token=f"$JS.ACK.{stream}.{consumer}.1.{found.sequence}.1.{nanoseconds}.0",
    )


def server_time(value: Mapping[str, Any]) -> datetime | None:
    """The server's clock, where an answer tells it; raises `NoAnswer`."""
    return _converted(value, _Clock).ts


def _converted(value: Mapping[str, Any], to: type[T]) -> T:
    try:
        return msgspec.convert(value, to)
    except msgspec.ValidationError as error:
        raise NoAnswer(f"the server's answer cannot be read: {error}") from error
