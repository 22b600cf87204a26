"""`infra.bus.nats.answers`: what cannot be read is no answer, and a reply subject that is none ends nobody."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, cast

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from infra.bus.base import NoAnswer, NoSuchSubject, PubAck, Refused, StreamFull, WrongSequence
from infra.bus.nats import answers
from infra.bus.nats.follower import _in_order

TIME: Final = "2026-11-22T05:00:00.123456789Z"
MESSAGE: Final[dict[str, Any]] = {"subject": "jobs.k", "seq": 7, "time": TIME, "data": b64encode(b"{}").decode()}
INFO: Final[dict[str, Any]] = {"num_pending": 3, "num_ack_pending": 1, "config": {"ack_wait": 60}}
FLOOR: Final[dict[str, Any]] = {
    "ack_floor": {"consumer_seq": 2, "stream_seq": 4},
    "config": {"filter_subject": "jobs.k"},
}
REPLY: Final = "$JS.ACK.JOBS.k.2.17.40.1795410600123456789.5"


def message(body: Any = None, *, reply: str = "", headers: dict[str, str] | None = None) -> Msg:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Msg(_client=cast(Client, None), subject="jobs.k", reply=reply, data=data, headers=headers)


def acknowledged(body: Any) -> Any:
    return answers.pub_ack(message(body))


def stored(body: Any) -> Any:
    return answers.stored(message(body))


def figures(body: Any) -> Any:
    return answers.consumer_state(answers.answer(message(body)))


def progress(body: Any) -> Any:
    return answers.done_with(answers.answer(message(body)))


def clock(body: Any) -> Any:
    return answers.server_time(answers.answer(message(body)))


def test_an_acknowledgement() -> None:
    assert acknowledged({"stream": "JOBS", "seq": 5, "domain": "d"}) == PubAck("JOBS", 5)
    assert acknowledged({"stream": "JOBS", "seq": 5, "duplicate": True}) == PubAck("JOBS", 5, duplicate=True)


@pytest.mark.parametrize(
    ("code", "kind"), [(10077, StreamFull), (10071, WrongSequence), (10164, WrongSequence), (1, Refused)]
)
def test_a_refusal_has_its_error(code: int, kind: type[Refused]) -> None:
    for read in (acknowledged, stored, figures, progress, clock):
        with pytest.raises(kind) as refused:
            read({"error": {"code": 400, "err_code": code, "description": "no"}})
        assert type(refused.value) is kind
        assert refused.value.err_code == code


def test_nobody_there() -> None:
    nobody = message(b"", headers={"Status": "503"})
    with pytest.raises(NoSuchSubject):
        answers.pub_ack(nobody)
    for read in (answers.answer, answers.stored):
        with pytest.raises(Refused, match="no responders"):
            read(nobody)


@pytest.mark.parametrize(
    ("read", "bodies"),
    [
        (acknowledged, [{}, {"stream": "JOBS"}, {"stream": "", "seq": 5}, {"stream": "JOBS", "seq": 0}]),
        (stored, [{}, {"message": {}}, {"message": {**MESSAGE, "seq": 0}}]),
        (stored, [{"message": {**MESSAGE, name: "*"}} for name in ("hdrs", "data", "time", "seq")]),
        (figures, [{}, {**INFO, "num_pending": -1}, {**INFO, "config": None}, {**INFO, "paused": 1}]),
        (
            progress,
            [{}, {**FLOOR, "ack_floor": {}}, {**FLOOR, "ack_floor": {"stream_seq": -1}}, {**FLOOR, "config": {}}],
        ),
        (clock, [{"ts": text} for text in ("", "2026", "2026-11-22T05:00:00", 5, "9" * 400)]),
    ],
)
def test_what_cannot_be_read_is_no_answer(read: Callable[[Any], Any], bodies: list[Any]) -> None:
    nonsense = [b"", b"{", b"[]", b"\xff", b"null", b'{"x":' + b"[" * 5_000, {"error": {"code": "x"}}]
    for body in (*nonsense, *bodies):
        with pytest.raises(NoAnswer):
            read(body)


def test_how_far_a_consumer_is() -> None:
    assert progress(FLOOR) == answers.DoneWith(floor=4, subject="jobs.k")


def test_a_stored_message_as_if_it_were_delivered() -> None:
    found = answers.delivery_again(stored({"message": MESSAGE}), "JOBS", "k")
    assert answers.delivery(message(b"{}", reply=found.token)) == found


def test_a_stored_message() -> None:
    headers = b64encode(b"NATS/1.0\r\na: 1\r\n\r\n").decode()
    found = stored({"message": {**MESSAGE, "hdrs": headers}})
    assert (found.subject, found.sequence, found.body, found.headers) == ("jobs.k", 7, b"{}", {"a": "1"})
    assert found.time.replace(microsecond=0) == datetime(2026, 11, 22, 5, tzinfo=UTC)
    assert stored({"message": MESSAGE}).headers == {}


@pytest.mark.parametrize("line", [b"a : 1", b"a: 1", b"a:1 ", b"a\t:\t1"])
def test_headers_are_read_as_they_are_delivered(line: bytes) -> None:
    block = b"NATS/1.0\r\n" + line + b"\r\n\r\n"
    assert answers.parse_headers(block) == Client._parse_header_lines(line) == {"a": "1"}


@pytest.mark.parametrize("line", [b"a b: 1", b"\xff: 1", "größe: 1".encode(), b"no colon"])
def test_odd_headers_are_left_out_as_on_delivery(line: bytes) -> None:
    assert answers.parse_headers(b"NATS/1.0\r\n" + line + b"\r\n\r\n") == Client._parse_header_lines(line) == {}


@pytest.mark.parametrize(
    "reply", [REPLY, REPLY.replace("ACK.", "ACK.hub.HASH."), REPLY.replace("ACK.", "ACK.hub.HASH.") + ".r"]
)
def test_a_delivery(reply: str) -> None:
    found = answers.delivery(message(b"", reply=reply))
    assert (found.stream, found.consumer, found.number, found.sequence, found.pending) == ("JOBS", "k", 2, 17, 5)
    assert answers.consumer_sequence(message(b"", reply=reply)) == 40
    assert found.token == reply


@pytest.mark.parametrize(
    "reply",
    [
        *("", "_INBOX.x.1", "$JS.ACK", REPLY[:-2], REPLY + "x", REPLY + "\n", "$JS.ACK" + ".1" * 20),
        *(REPLY.replace(".17.", f".{number}.") for number in ("0", "-1", "٢", "9" * 400)),
        REPLY.replace("1795", "9" * 30),
    ],
)
def test_a_reply_that_is_none(reply: str) -> None:
    with pytest.raises(ValueError, match="no reply subject"):
        answers.delivery(message(b"", reply=reply))


@pytest.mark.asyncio
@pytest.mark.parametrize("reply", ["", "_INBOX.1", "$JS.ACK.x"])
async def test_following_begins_anew_after_a_message_that_cannot_be_placed(reply: str) -> None:
    arrived: asyncio.Queue[Msg | None] = asyncio.Queue()
    for one in (REPLY.replace(".40.", ".1."), reply, REPLY.replace(".40.", ".2.")):
        arrived.put_nowait(message(b"", reply=one))
    assert [found.sequence async for found in _in_order(arrived)] == [17]
