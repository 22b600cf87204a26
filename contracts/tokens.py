"""What may stand between two dots of a subject."""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import sha256

__all__ = ["BadToken", "as_token", "is_token", "short_hash", "token_or_raise"]

LONGEST = 128
_TOKEN = re.compile(r"[A-Za-z0-9_-]+")


class BadToken(ValueError):
    """A name that must be a token is none."""

    def __init__(self, what: str, value: str) -> None:
        super().__init__(f"{what} {value[:200]!r} is not a token: 1 to 128 of the characters A-Z a-z 0-9 _ -")


def is_token(value: str) -> bool:
    """True if `value` can stand as one token of a subject, by full match."""
    # What is longer is not even remembered: an input may name an id of a million characters.
    return len(value) <= LONGEST and _is_short_token(value)


@lru_cache(maxsize=4096)
def _is_short_token(value: str) -> bool:
    return _TOKEN.fullmatch(value) is not None


def as_token(value: str) -> str:
    """`value` itself if it is a token, else the sha256 in hex of its UTF-8 bytes."""
    return value if is_token(value) else _digest(value)


def token_or_raise(what: str, value: str) -> str:
    """`value`, or `BadToken` naming `what` it was to be."""
    if not is_token(value):
        raise BadToken(what, value)
    return value


def short_hash(value: str) -> str:
    """The first 16 hex digits of the sha256 of `value`: stands for a child's key that cannot be a token."""
    return _digest(value)[:16]


def _digest(value: str) -> str:
    # A JSON string may hold a lone surrogate, which strict UTF-8 refuses.
    return sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
