"""Decoders of what a nats-server says: answers of its API, reply subjects, blocks of headers."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, Final, cast

from nats.aio.client import Client
from nats.aio.msg import Msg

from infra.bus.base import ConsumerState, NoAnswer, PubAck, Refused, Stored
from infra.bus.nats import answers
from tests.fuzz.check import Decoder, must
from tests.fuzz.inputs import headers_of
from tests.fuzz.mutate import HEAD_END

__all__ = ["SERVER"]

_NOBODY: Final = cast(Client, None)
_ERROR: Final = {"code": 400, "err_code": 10071, "description": "wrong last sequence: 5"}
_BLOCK: Final = b"NATS/1.0\r\nce-id: a.1\r\nNats-Msg-Id: a.1\r\n\r\n"
_STORED: Final = {
    "type": "io.nats.jetstream.api.v1.stream_msg_get_response",
    "message": {
        "subject": "jobs.k",
        "seq": 7,
        "hdrs": b64encode(_BLOCK).decode(),
        "data": b64encode(b"{}").decode(),
        "time": "2026-11-22T05:00:00.123456789Z",
    },
}
_INFO: Final = {
    "num_pending": 3,
    "num_ack_pending": 1,
    "num_redelivered": 0,
    "paused": False,
    "config": {"ack_wait": 60},
    "ts": "2026-11-22T05:00:00.123456789Z",
}
_REPLY: Final = b"$JS.ACK.JOBS.k.2.17.40.1795410600123456789.5"
_LONG_REPLY: Final = b"$JS.ACK.hub.ACCHASH.JOBS.k.2.17.40.1795410600123456789.5.random"


def _answer(read: Callable[[Msg], Any], gives: type | tuple[type, ...], data: bytes) -> bool:
    """Headers and body, as the answer to a request."""
    head, end, body = data.partition(HEAD_END)
    found, body = (headers_of(head), body) if end else (None, data)
    try:
        value = read(Msg(_client=_NOBODY, subject="_INBOX.1", reply="", data=body, headers=found))
    except (Refused, NoAnswer) as error:
        must(str(error), "an error says nothing")
        return False
    must(isinstance(value, gives), f"{type(value).__name__} is not what it reads")
    return True


def _state(message: Msg) -> ConsumerState:
    state = answers.consumer_state(answers.answer(message))
    must(type(state.depth) is int and type(state.paused) is bool, "figures are no numbers")
    return state


def _time(message: Msg) -> datetime | None:
    time = answers.server_time(answers.answer(message))
    must(time is None or time.tzinfo is not None, "a clock without its offset")
    return time


def _delivery(data: bytes) -> bool:
    message = Msg(_client=_NOBODY, subject="jobs.k", reply=data.decode("utf-8", "replace"), data=b"", headers=None)
    try:
        found = answers.delivery(message)
    except ValueError as error:
        must("no reply subject" in str(error), "an error of another kind")
        return False
    must(found.stream and found.consumer, "a delivery of nothing")
    must(found.sequence > 0 and found.number > 0 and found.pending >= 0, "a number is out of range")
    must(answers.from_follow(message).sequence == found.sequence, "it is another message when it is followed")
    return True


def _block(data: bytes) -> bool:
    """What is read of a stored message has the headers that its delivery has."""
    found = answers.parse_headers(data)
    must(
        found == headers_of(data.partition(b"\r\n")[2]),
        "headers are others when the message is read than when delivered",
    )
    return bool(found)


def _texts(*values: Any) -> list[bytes]:
    return [json.dumps(value).encode() for value in values]


_ACKS: Final = _texts(
    {"stream": "JOBS", "seq": 5}, {"stream": "JOBS", "seq": 5, "duplicate": True}, {"error": _ERROR, "stream": "JOBS"}
)

SERVER: Final[list[Decoder]] = [
    Decoder(
        name="answers.pub_ack",
        samples=[*_ACKS, b"Status: 503" + HEAD_END, b"x: y" + HEAD_END + _ACKS[0]],
        feed=partial(_answer, answers.pub_ack, PubAck),
    ),
    Decoder(
        name="answers.answer",
        samples=[*_texts(_INFO, {"error": _ERROR}), b"Status: 503" + HEAD_END],
        feed=partial(_answer, answers.answer, dict),
    ),
    Decoder(
        name="answers.stored",
        samples=_texts(_STORED, {"error": _ERROR}),
        feed=partial(_answer, answers.stored, Stored),
    ),
    Decoder(name="answers.consumer_state", samples=_texts(_INFO), feed=partial(_answer, _state, ConsumerState)),
    Decoder(
        name="answers.server_time",
        samples=_texts({"ts": _INFO["ts"]}, {"ts": "2026-11-22T06:00:00+01:00"}),
        feed=partial(_answer, _time, (datetime, type(None))),
    ),
    Decoder(name="answers.delivery", samples=[_REPLY, _LONG_REPLY], feed=_delivery),
    Decoder(name="answers.parse_headers", samples=[_BLOCK, b"NATS/1.0 100 Idle\r\na: b\r\n\r\n"], feed=_block),
]
