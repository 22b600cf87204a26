"""What must hold of one decoder and one input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from contracts.codec import Undecodable

__all__ = ["Broken", "Decoder", "must", "round_trip"]


class Broken(AssertionError):
    """A decoder did what none may do."""


class Decoder(Struct, frozen=True, kw_only=True):
    """A decoder, and valid inputs for it."""

    name: str
    samples: Sequence[bytes]
    feed: Callable[[bytes], bool]
    """Decode, check what must hold; True where it decoded, False where it was refused as it may be."""


def must(holds: object, what: str) -> None:
    """`what` must hold."""
    if not holds:
        raise Broken(what)


def round_trip(
    decode: Callable[[bytes], Any],
    encode: Callable[[Any], bytes] = msgspec.json.encode,
    *,
    refusal: type[Exception] | tuple[type[Exception], ...] = Undecodable,
    gives: type | tuple[type, ...] = object,
) -> Callable[[bytes], bool]:
    """A feed: what decodes is of its type, and encoded and decoded again it is the same."""

    def feed(data: bytes) -> bool:
        try:
            value = decode(data)
        except refusal as error:
            must(str(error), "an error says nothing")
            return False
        must(isinstance(value, gives), f"{type(value).__name__} is not what it decodes")
        # By bytes: raw JSON compares by identity, and NaN equals nothing.
        encoded = encode(value)
        must(encode(decode(encoded)) == encoded, "it decodes to another value when it is encoded again")
        return True

    return feed
