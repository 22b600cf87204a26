"""What decoders have stumbled over: numbers, texts, pieces of bytes, values and headers to break samples with."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["HEADERS", "NUMBERS", "PIECES", "STRINGS", "VALUES"]

NUMBERS: Final = [
    *(b"0", b"-0", b"-1", b"1", b"0.1", b"-0.0", b"1e999", b"-1e999", b"1e-999", b"NaN", b"Infinity", b"-Infinity"),
    *(b"9223372036854775807", b"9223372036854775808", b"18446744073709551616", b"1e30", b"4e4933", b"01", b"+1", b"1."),
    *(b"1" * 40, b"9" * 310, b"1" * 5000, b"-" + b"1" * 79, b"0x10", b"1_000", b"\xd9\xa3"),
]
STRINGS: Final = [
    *(
        b"",
        b"\\u0000",
        b"\x00",
        b"\\ud800",
        b"\\udfff\\ud800",
        b"\\ud83d\\ude00",
        b"\xff",
        b"\xed\xa0\x80",
        b"\xc0\x80",
    ),
    *(
        b"\xf4\x90\x80\x80",
        b"\xef\xbb\xbf",
        b"\\",
        b"\\x",
        b"\\u12",
        b"\n",
        b"\r\nPUB x 0",
        b"*",
        b">",
        b"a.b",
        b"..",
        b" ",
    ),
    *("é".encode(), "\u2028".encode(), "𝒳".encode() * 40, b"A" * 129, b"A" * 700, b"A" * 5000, b"null", b"/../", b"%s"),
    *(b"2026-11-22T05:00:00Z", b"0001-01-01T00:00:00+23:59", b"9999-12-31T23:59:60-23:59", b"9" * 400),
]
PIECES: Final = [
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b'"',
        b",",
        b":",
        b"null",
        b"true",
        b"{}",
        b"[]",
        b'""',
        b"\x00",
        b"\xff",
        b"\r\n",
        b"\n",
    ),
    *(
        b"\r\n\r\n",
        b"/*",
        b"//",
        b"'",
        b"\t",
        b" " * 50,
        b"\x80",
        b"\x81\xa4type",
        b"\xc1",
        b"\xc7\x0c\xff",
        b"\xd6\xff",
    ),
    *(
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\x1e",
        b"$JS.",
    ),
]
VALUES: Final[list[Any]] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        0.5,
        -0.0,
        2**31,
        2**53 + 1,
        2**63 - 1,
        2**63,
        2**64,
        10**25,
        1e308,
        "",
        "x",
        "\x00",
    ),
    *("é", "a.b", "*", ">", "A" * 128, "A" * 129, "A" * 3000, "2026-11-22T05:00:00Z", "2026-11-22T05:00:00", "0"),
    *([], {}, [[]], [None], {"": None}, {"a": {"b": {}}}, ["x"] * 40, {"type": "reported"}, {"event": "started"}),
    *(float("inf"), float("-inf"), float("nan"), "NaN", "true", b"bytes", "\ud800"),
]
HEADERS: Final = [
    *(
        b"ce-specversion: 1.0",
        b"ce-id: \xff",
        b"ce-id:",
        b"content-type: application/cloudevents+json",
        b": x",
        b"noline",
    ),
    *(
        b"Content-Type:application/CloudEvents+JSON ; charset=x",
        b"Jetray-Job-Id: J1",
        b"Jetray-Job-Id: a b",
        b"a\x01: 1",
    ),
    *(
        b"Jetray-Run: 2",
        b"Jetray-Run: \xd9\xa3",
        b"Jetray-Run: 0",
        b"Jetray-Index: -1",
        b"Jetray-Parent: plan.P1",
        b"\x00:",
    ),
    *(b"Jetray-Parent: plan", b"Jetray-Origin: JOBS:17", b"Jetray-Origin: :", b"Jetray-Deadline: nan", b"\xff: 1"),
    *(
        b"Jetray-Deadline: 1e400",
        b"Jetray-Deadline: 1_0",
        b"Nats-Msg-Id: a.b",
        b"Nats-Msg-Id: " + b"m" * 600,
        b"(x)@: 1",
    ),
    *(
        b"Nats-Expected-Last-Sequence: 0",
        b"Nats-TTL: 1",
        b"Status: 503",
        b"Status: 100",
        b"a" * 400 + b": x",
        b'"q": 1',
    ),
    *(b"Jetray-Header-x: 1", b"Jetray-Header-: 1", b"traceparent: 00-" + b"0" * 32, b"x: =?utf-8?b?eA==?=", b"A b: 1"),
]
