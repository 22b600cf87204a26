"""Removes directories that jobs have had their way with."""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

__all__ = ["remove"]


def remove(path: Path) -> None:
    """Remove a directory and all that is in it, or the link that is in its place. Raises nothing: what cannot go stays.

    Neither what may not be written to is in its way, nor what is nested deeper than a path may be long.
    """
    with suppress(OSError):
        if path.is_symlink():
            path.unlink()
    with suppress(RecursionError):
        shutil.rmtree(path, ignore_errors=True)
    if os.path.lexists(path):
        _remove_flat(path)


def _remove_flat(top: Path) -> None:
    """Every directory is moved up to `top` before it is looked into, so none is far away."""
    aside, numbers = secrets.token_hex(8), itertools.count()
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        with suppress(OSError):
            os.chmod(folder, 0o700)
            for entry in os.listdir(folder):
                with suppress(OSError):
                    inner = folder / entry
                    if inner.is_symlink() or not inner.is_dir():
                        inner.unlink()
                    else:
                        os.chmod(inner, 0o700)
                        waiting.append(inner.rename(top / f"{aside}.{next(numbers)}"))
            if folder != top:
                folder.rmdir()
    with suppress(OSError):
        top.rmdir()
