"""Names below a directory, and the way there: by descriptors, never through a link, so never out of it."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

__all__ = ["DEEPEST", "DIRECTORY", "directory", "parts", "shown", "wrong_with"]

DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
DEEPEST: Final = 64
"""Parts that a name may have."""
PART_BYTES: Final = 255


def parts(name: str) -> tuple[str, ...]:
    """The parts of a relative name, as `a/b.csv`. Raises `ValueError` that says what is wrong with it."""
    wrong = wrong_with(name)
    if wrong:
        raise ValueError(wrong)
    return tuple(name.split("/"))


def wrong_with(name: object) -> str:
    """Why something is no relative name that may be used anywhere; empty where it is one."""
    if not isinstance(name, str):
        return "is no text"
    if not name:
        return "is empty"
    kinds = {unicodedata.category(character) for character in name}
    if "Cs" in kinds:
        return "is not UTF-8"
    if "Cc" in kinds:
        return "has control characters"
    if name.startswith("/"):
        return "is absolute"
    pieces = name.split("/")
    if not {"", ".", ".."}.isdisjoint(pieces):
        return "has a part that is empty, . or .."
    if len(pieces) > DEEPEST or max(len(piece.encode()) for piece in pieces) > PART_BYTES:
        return "is too long"
    return ""


def shown(name: object) -> str:
    """Any name, as a message may hold it."""
    plain = str(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(
        character.encode("unicode_escape").decode() if unicodedata.category(character) == "Cc" else character
        for character in plain
    )


@contextmanager
def directory(root: int, names: Sequence[str], *, make: bool = False) -> Iterator[int]:
    """A descriptor of the directory at `names` below the one that `root` is a descriptor of.

    `make` makes what is missing. Raises `OSError` where one of them is no directory, and so where it is a link.
    """
    found = os.dup(root)
    try:
        for name in names:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(name, dir_fd=found)
            deeper = os.open(name, DIRECTORY, dir_fd=found)
            os.close(found)
            found = deeper
        yield found
    finally:
        os.close(found)
