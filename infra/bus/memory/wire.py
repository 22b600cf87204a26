"""Headers as they come out at the other end, and the room they take."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

__all__ = ["HEADER_BYTES", "as_sent", "block_size"]

HEADER_BYTES: Final = 65_535
"""The most that JetStream takes in headers alone."""

_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NEWLINES: Final = str.maketrans({"\r": " ", "\n": " "})


def as_sent(subject: str, headers: Mapping[str, str]) -> dict[str, str]:
    """Headers as the client library sends them: trimmed, newlines as spaces, names without a character left out.

    Raises `ValueError` for a name that holds what a name must not.
    """
    sent = {}
    for name, value in headers.items():
        name = name.strip()
        if not name:
            continue
        if not _is_name(name):
            raise ValueError(f"message to {subject}: {name!r} cannot be the name of a header")
        sent[name] = value.strip().translate(_NEWLINES)
    return sent


@lru_cache
def _is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


def block_size(headers: Mapping[str, str]) -> int:
    """Bytes of the header block: a version line, a line for each header, an empty line; 0 without headers."""
    if not headers:
        return 0
    text = "".join((*headers, *headers.values()))
    return len("NATS/1.0\r\n\r\n") + len(headers) * len(": \r\n") + len(text.encode())
