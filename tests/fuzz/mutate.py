"""Valid samples, broken in the ways in which bytes break.

Some breakages know bytes alone; some know JSON's or msgpack's structure, so that what they make still parses and gets
past the first check; some know lines of headers.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

import msgspec

from tests.fuzz.pieces import HEADERS, NUMBERS, PIECES, STRINGS, VALUES

__all__ = ["Mutator"]

HEAD_END: Final = b"\r\n\r\n"
"""Between headers and body, in samples that have both."""

_NUMBER: Final = re.compile(rb"(?<=[:\[, .])-?\d+(?:\.\d+)?")
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*"')
_MEMBER: Final = re.compile(rb'"(\w+)":("[^"\\]*"|[\w.-]+|\[\]|\{\})')


class Mutator:
    """Breaks samples; with the same seed in the same way."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self._any: list[Callable[[bytes], bytes]] = [
            self._flip,
            self._flip,
            self._cut,
            self._double,
            self._insert,
            self._truncate,
            self._number,
            self._string,
            self._member_twice,
            self._nest,
            self._header,
        ]

    def broken(self, samples: Sequence[bytes]) -> bytes:
        """One of the samples, broken once or a few times; seldom as it is."""
        random = self.random
        data = random.choice(samples)
        how = random.random()
        if how < 0.02:
            return data
        if how < 0.45:
            data = self._restructure(data)
        if how < 0.06:
            data = self._splice(data, random.choice(samples))
        for _ in range(random.choice((0, 0, 1, 1)) if how < 0.45 else random.choice((1, 1, 2, 3))):
            data = random.choice(self._any)(data)
        return data

    # Bytes

    def _at(self, data: bytes) -> int:
        return int(self.random.random() * len(data))

    def _flip(self, data: bytes) -> bytes:
        if not data:
            return data
        at = self._at(data)
        return data[:at] + bytes([data[at] ^ 1 << self.random.randrange(8)]) + data[at + 1 :]

    def _cut(self, data: bytes) -> bytes:
        at = self._at(data)
        return data[:at] + data[at + self.random.choice((1, 1, 2, 4, 20)) :]

    def _double(self, data: bytes) -> bytes:
        at = self._at(data)
        return data[:at] + data[at : at + self.random.choice((1, 8, 60))] * 2 + data[at:]

    def _insert(self, data: bytes) -> bytes:
        at = self._at(data)
        return data[:at] + self.random.choice(PIECES) + data[at:]

    def _truncate(self, data: bytes) -> bytes:
        return data[: self._at(data)]

    def _splice(self, data: bytes, other: bytes) -> bytes:
        return data[: self._at(data)] + other[self._at(other) :]

    def _nest(self, data: bytes) -> bytes:
        depth = self.random.choice((3, 15, 17, 63, 66, 500, 1_500, 6_000) if self.random.random() < 0.4 else (3, 17))
        opening, closing = self.random.choice(((b"[", b"]"), (b'{"a":', b"}"), (b"\x91", b""), (b"\x81\xa1a", b"")))
        found = _find(_STRING if self.random.random() < 0.5 else _NUMBER, data, self.random)
        start, end = found or (at := self._at(data), at)
        return data[:start] + opening * depth + (data[start:end] or b"0") + closing * depth + data[end:]

    # JSON as text

    def _number(self, data: bytes) -> bytes:
        return self._replace(_NUMBER, data, self.random.choice(NUMBERS))

    def _string(self, data: bytes) -> bytes:
        return self._replace(_STRING, data, b'"' + self.random.choice(STRINGS) + b'"')

    def _member_twice(self, data: bytes) -> bytes:
        span = _find(_MEMBER, data, self.random)
        if span is None:
            return self._flip(data)
        start, end = span
        name = data[start:end].partition(b":")[0]
        return (
            data[:start] + name + b":" + self.random.choice([*NUMBERS[:4], b'""', b"null", b"{}"]) + b"," + data[start:]
        )

    def _replace(self, pattern: re.Pattern[bytes], data: bytes, by: bytes) -> bytes:
        span = _find(pattern, data, self.random)
        return self._insert(data) if span is None else data[: span[0]] + by + data[span[1] :]

    # Headers

    def _header(self, data: bytes) -> bytes:
        head, end, body = data.partition(HEAD_END)
        if not end:
            return self._flip(data)
        lines = head.split(b"\r\n")
        match self.random.randrange(4):
            case 0:
                lines.insert(self.random.randrange(len(lines) + 1), self.random.choice(HEADERS))
            case 1:
                lines[self.random.randrange(len(lines))] = self.random.choice(HEADERS)
            case 2:
                at = self.random.randrange(len(lines))
                name, colon, _ = lines[at].partition(b":")
                lines[at] = name + colon + b" " + self.random.choice(STRINGS + NUMBERS)
            case _:
                at = self.random.randrange(len(lines))
                lines[at] = self.random.choice(
                    (lines[at].upper(), lines[at].title(), lines[at].replace(b":", b" : ", 1))
                )
        return b"\r\n".join(lines) + end + body

    # Values

    def _restructure(self, data: bytes) -> bytes:
        """The same with one value in it replaced, left out or added; still JSON, or msgpack."""
        head, end, body = data.partition(HEAD_END)
        body, front = (body, head + end) if end else (data, b"")
        for read, write in ((_from_json, _to_json), (_from_msgpack, _to_msgpack)):
            value = read(body)
            if value and isinstance(value, (dict, list)):
                return front + write(self._changed(value))
        return self._flip(data)

    def _changed(self, value: Any) -> Any:
        places = _places(value)
        holder, key = self.random.choice(places)
        match self.random.randrange(5):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[self.random.choice(("", "extra", "é", "type", "event", "payload", "id"))] = holder[key]
            case 2:
                other, its = self.random.choice(places)
                holder[key] = copy.deepcopy(other[its])
            case _:
                holder[key] = self.random.choice(VALUES)
        return value


def _places(value: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    open_ = [value]
    while open_:
        one = open_.pop()
        steps = list(one) if isinstance(one, dict) else range(len(one))
        found += [(one, step) for step in steps]
        open_ += [one[step] for step in steps if isinstance(one[step], (dict, list)) and one[step]]
    return found


def _find(pattern: re.Pattern[bytes], data: bytes, random: Random) -> tuple[int, int] | None:
    """One of the places where it matches: the first after a place drawn at random, else the first of all."""
    match = pattern.search(data, int(random.random() * len(data))) or pattern.search(data)
    return None if match is None else match.span()


def _from_json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _to_json(value: Any) -> bytes:
    # Python's own encoder writes NaN, Infinity and lone surrogates, which is what is wanted here.
    return json.dumps(value, separators=(",", ":"), default=repr).encode()


def _from_msgpack(body: bytes) -> Any:
    try:
        return msgspec.msgpack.decode(body)
    except ValueError:
        return None


def _to_msgpack(value: Any) -> bytes:
    try:
        return msgspec.msgpack.encode(value)
    except (OverflowError, ValueError):
        # msgpack has no integer over 64 bits, and no text with a lone surrogate.
        return b"\xcf" + b"\xff" * 8
