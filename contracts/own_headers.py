"""Our own headers on messages in. Names are in lower case: publishers' clients spell them as they like."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from msgspec import Struct

from contracts import headers as h
from contracts.codec import Undecodable
from contracts.tokens import is_token

__all__ = ["OwnHeaders", "read_own", "salvage"]

U = TypeVar("U")

_ORIGIN: Final = re.compile(r"[A-Za-z0-9_-]{1,128}:[1-9][0-9]{0,18}")


class OwnHeaders(Struct, frozen=True):
    """What our headers say."""

    deadline_s: float | None
    parent: str | None
    index: int
    run: int | None
    origin: str | None


_NAMES: Final = frozenset(name.lower() for name in (h.DEADLINE, h.PARENT, h.INDEX, h.RUN, h.ORIGIN))
_NOTHING: Final = OwnHeaders(deadline_s=None, parent=None, index=0, run=None, origin=None)


def read_own(headers: Mapping[str, str]) -> OwnHeaders:
    """What our headers say, or `Undecodable` naming the one that is wrong."""
    if _NAMES.isdisjoint(headers):
        return _NOTHING
    return OwnHeaders(
        deadline_s=_seconds(headers),
        parent=_parent(headers),
        index=_whole(headers, h.INDEX, 0) or 0,
        run=_whole(headers, h.RUN, 1),
        origin=_origin(headers),
    )


def salvage(headers: Mapping[str, str]) -> OwnHeaders:
    """What of our headers can be read: what is wrong with one must not lose a child its parent."""
    return OwnHeaders(
        deadline_s=_or_none(_seconds, headers),
        parent=_or_none(_parent, headers),
        index=_or_none(lambda found: _whole(found, h.INDEX, 0), headers) or 0,
        run=_or_none(lambda found: _whole(found, h.RUN, 1), headers),
        origin=_or_none(_origin, headers),
    )


def _seconds(headers: Mapping[str, str]) -> float | None:
    text = headers.get(h.DEADLINE.lower())
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise Undecodable(f"header {h.DEADLINE} must be seconds greater than 0, not {text[:50]!r}")
    return value


def _whole(headers: Mapping[str, str], name: str, least: int) -> int | None:
    text = headers.get(name.lower())
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19 and int(text) >= least):
        raise Undecodable(f"header {name} must be a whole number from {least}, not {text[:50]!r}")
    return int(text)


def _parent(headers: Mapping[str, str]) -> str | None:
    text = headers.get(h.PARENT.lower())
    if text is None:
        return None
    kind, _, job_id = text.partition(".")
    if not (is_token(kind) and is_token(job_id)):
        raise Undecodable(f"header {h.PARENT} must be <kind>.<id>, not {text[:50]!r}")
    return text


def _origin(headers: Mapping[str, str]) -> str | None:
    text = headers.get(h.ORIGIN.lower())
    if text is not None and not _ORIGIN.fullmatch(text):
        raise Undecodable(f"header {h.ORIGIN} must be <stream>:<sequence>, not {text[:50]!r}")
    return text


def _or_none(parse: Callable[[Mapping[str, str]], U | None], headers: Mapping[str, str]) -> U | None:
    try:
        return parse(headers)
    except Undecodable:
        return None
