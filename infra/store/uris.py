"""URIs of files, looked at as texts before any library sees them: what libraries make of an odd one is theirs."""

from __future__ import annotations

import re
from typing import Final

from infra.store.base import Missing

__all__ = ["SCHEMES", "above", "below", "scheme", "wrong_with"]

SCHEMES: Final = ("nats", "file", "s3")
"""Of places that an operator may name."""
_URI: Final = re.compile(r"(?P<scheme>[a-z][a-z0-9]*)://(?P<rest>.*)", re.DOTALL)
_ODD: Final = re.compile(r"::|[%@?#*\\\x00-\x1f\x7f-\x9f\ud800-\udfff]|\[|\]")
"""What changes a URI's meaning, or what some library takes for such: percent signs, users, queries, chains, globs."""


def scheme(uri: str) -> str:
    """Its scheme; empty where it is no URI."""
    found = _URI.fullmatch(uri)
    return "" if found is None else found["scheme"]


def wrong_with(uri: str) -> str:
    """Why something is no URI that may be used; empty where it is one."""
    found = _URI.fullmatch(uri)
    if found is None:
        return "is no URI, as file:///srv/files"
    odd = _ODD.search(uri)
    if odd is not None:
        return f"has {odd[0]!r} in it"
    rest = found["rest"]
    if found["scheme"] == "file" and not rest.startswith("/"):
        return "is no absolute path, as file:///srv/files"
    pieces = rest.removeprefix("/").rstrip("/").split("/") if rest.strip("/") else []
    if not {"", ".", ".."}.isdisjoint(pieces):
        return "has a part that is empty, . or .."
    return ""


def above(root: str, name: str) -> str:
    """The URI of a name below `root`."""
    return f"{root}{name}" if root.endswith("/") else f"{root}/{name}"


def below(uri: str, root: str) -> str:
    """The name of `uri` below `root`. Raises `Missing` where it lies elsewhere, or cannot be used at all."""
    wrong = wrong_with(uri)
    if wrong:
        raise Missing(f"{uri!r} {wrong}")
    base = above(root, "")
    if not uri.startswith(base) or uri == base:
        raise Missing(f"{uri!r} is not below {root}")
    return uri.removeprefix(base)
