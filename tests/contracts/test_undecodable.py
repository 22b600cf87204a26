"""Every decoder of ours fails in one way, whatever is wrong with the bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
import pytest

from contracts import calls, catalogue, events, joins
from contracts.codec import Undecodable
from infra.pool import wire
from infra.pool.ray.actor import unpacked_items

JSON: Final[dict[str, bytes]] = {
    "nothing": b"",
    "cut short": b'{"event":',
    "another value": b"[]",
    "not UTF-8": b'{"event":"\xff","child":"\xff","name":"\xff"}',
    "too deep": b'{"x":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
}
MSGPACK: Final[dict[str, bytes]] = {
    "nothing": b"",
    "cut short": b"\x82\xa4type",
    "another value": b"\x07",
    "not UTF-8": b"\x82\xa4type\xa1\xff\xa4kind\xa1\xff",
    "too deep": b"\x82\xa1x" + b"\x91" * 5_000 + b"\xc0\xa4type\xa4gone",
    "longer than it is": b"\xdd\xff\xff\xff\xff",
}
DECODERS: Final[list[tuple[Callable[[bytes], Any], dict[str, bytes]]]] = [
    (events.decode, JSON),
    (joins.decode, JSON),
    (catalogue.decode, JSON),
    (calls.decode_call, MSGPACK),
    (calls.decode_reply, MSGPACK),
    (wire.decode_down, MSGPACK),
    (wire.decode_up, MSGPACK),
    (unpacked_items, MSGPACK),
]


@pytest.mark.parametrize(
    ("decode", "data"),
    [
        pytest.param(decode, data, id=f"{decode.__module__}.{decode.__name__}, {what}")
        for decode, cases in DECODERS
        for what, data in cases.items()
    ],
)
def test_it_is_undecodable(decode: Callable[[bytes], Any], data: bytes) -> None:
    with pytest.raises(Undecodable):
        decode(data)


def test_who_expects_the_librarys_error_gets_it() -> None:
    assert issubclass(Undecodable, msgspec.DecodeError)
    assert issubclass(Undecodable, ValueError)
