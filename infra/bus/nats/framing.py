"""Messages as bytes on the wire, to be written many at a time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from infra.bus.base import Trimmed

__all__ = ["framed", "header_block"]

_SPACE: Final = re.compile(r"\s")
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_LINE_ENDS: Final = str.maketrans({"\r": " ", "\n": " "})


def framed(subject: str, reply: str, block: bytes, body: bytes) -> bytes:
    """One publish; `block` is what `header_block` made, or empty. `ValueError` where the subject is none."""
    if not subject or _SPACE.search(subject):
        raise ValueError(f"message to {subject!r}: that is no subject, it is empty or holds white space")
    if not block:
        return b"%b%b\r\n" % (f"PUB {subject} {reply} {len(body)}\r\n".encode(), body)
    head = f"HPUB {subject} {reply} {len(block)} {len(block) + len(body)}\r\n".encode()
    return b"%b%b%b\r\n" % (head, block, body)


def header_block(headers: Mapping[str, str]) -> bytes:
    """Headers as they stand before the body: trimmed, line ends as spaces, those without a name left out.

    `ValueError` where a name is none.
    """
    if not headers:
        return b""
    lines, form = _form(tuple(headers))
    text = form % tuple(headers.values())
    if type(headers) is Trimmed:
        return text.encode()
    if text.count("\n") + text.count("\r") == lines and " \r" not in text and ":  " not in text:
        return text.encode()
    trimmed = {name.strip(): value.strip().translate(_LINE_ENDS) for name, value in headers.items()}
    return (_form(tuple(trimmed))[1] % tuple(trimmed.values())).encode()


@lru_cache(maxsize=1024)
def _form(names: tuple[str, ...]) -> tuple[int, str]:
    """A header block with a place for each value, and how many ends of lines it has."""
    shown = [_trimmed(name) for name in names]
    # A header without a name is not sent, but its value must go somewhere.
    lines = [f"{name}: %s\r\n".replace("%", "%%", name.count("%")) if name else "%.0s" for name in shown]
    return 2 * (2 + sum(map(bool, shown))), "NATS/1.0\r\n" + "".join(lines) + "\r\n"


def _trimmed(name: str) -> str:
    trimmed = name.strip()
    if trimmed and not _HEADER_NAME.fullmatch(trimmed):
        raise ValueError(f"{trimmed!r} cannot be the name of a header")
    return trimmed
