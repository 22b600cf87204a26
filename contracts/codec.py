"""Bytes to values and back: depth before decoding, every way to fail as one error, canonical bytes for identity."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

__all__ = ["Undecodable", "canonical", "check_depth", "decode", "encode", "unencodable_path"]

T = TypeVar("T")

_STRING_OR_BRACKET: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
_PATH_LEVELS: Final = 16
_canonical = msgspec.json.Encoder(order="sorted")
_encoder = msgspec.json.Encoder()
_anything: msgspec.json.Decoder[Any] = msgspec.json.Decoder()


class Undecodable(msgspec.DecodeError):
    """Bytes that are not what they must be. A `ValueError`."""


def check_depth(body: bytes, limit: int) -> None:
    """Raise `Undecodable` where `body` nests deeper than `limit`.

    A decoder recurses: on a thread with a small stack, deep nesting ends the process instead of raising.
    """
    if body.count(b"[") + body.count(b"{") <= limit:
        return
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(body):
        first = body[match.start()]
        if first in b"[{":
            depth += 1
            if depth > limit:
                raise Undecodable(f"nested deeper than {limit}")
        elif first in b"]}":
            depth -= 1


def decode(decoder: msgspec.json.Decoder[T] | msgspec.msgpack.Decoder[T], body: bytes) -> T:
    """What `body` holds, or `Undecodable` with the decoder's words. Check size and depth first."""
    try:
        return decoder.decode(body)
    except msgspec.DecodeError as error:
        raise Undecodable(str(error)) from error
    except UnicodeDecodeError as error:
        raise Undecodable(f"not UTF-8 at byte {error.start}") from error
    except RecursionError as error:
        raise Undecodable("nested too deep") from error


def encode(value: Any) -> bytes:
    """`value` as compact JSON."""
    return _encoder.encode(value)


def canonical(value: Any, without: frozenset[str] = frozenset()) -> bytes:
    """`value` as JSON with sorted keys, less the top-level fields `without`: equal values give equal bytes.

    `Undecodable` where the value holds raw JSON that is none; `TypeError` or `ValueError` where JSON cannot hold it.
    """
    # Through JSON and back: only so are raw parts sorted too, and keys that are numbers or dates turned into text.
    plain = decode(_anything, _encoder.encode(value))
    if without and isinstance(plain, dict):
        plain = {name: field for name, field in plain.items() if name not in without}
    return _canonical.encode(plain)


def unencodable_path(value: Any, path: str = "$", levels: int = _PATH_LEVELS) -> str | None:
    """Where in `value` the first thing stands that JSON cannot hold, like `$.metrics['loss']`; None if nowhere.

    Looks `levels` deep at most, since a value that holds itself has no end.
    """
    try:
        _encoder.encode(value)
        return None
    except (TypeError, ValueError, RecursionError, OverflowError):
        pass
    if levels == 0:
        return path
    for step, child in _children(value):
        found = unencodable_path(child, path + step, levels - 1)
        if found is not None:
            return found
    return path


def _children(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, msgspec.Struct):
        return [(f".{name}", getattr(value, name)) for name in value.__struct_fields__]
    if isinstance(value, Mapping):
        return [(f"[{key!r}]", child) for key, child in value.items()]
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray)):
        return [(f"[{index}]", child) for index, child in enumerate(value)]
    fields = getattr(value, "__dataclass_fields__", None)
    if fields is not None:
        return [(f".{name}", getattr(value, name)) for name in fields]
    return []
