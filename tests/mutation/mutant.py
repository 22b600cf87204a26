"""A copy of the packages without one guard."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.mutation.guard import Guard

__all__ = ["ROOT", "Stale", "edited", "mutant"]

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("contracts", "infra", "workers", "tests/simulation", "tests/mutation", "tests/checker.py")


class Stale(Exception):
    """A guard's text no longer stands in its file, or stands there more than once: the table has to follow."""

    def __init__(self, guard: Guard, file: str, times: int) -> None:
        super().__init__(f"guard {guard.name!r}: its text stands {times} times in {file}, and must stand there once")


def edited(guard: Guard) -> dict[str, str]:
    """The guard's files as they read without it. Raises `Stale`."""
    texts: dict[str, str] = {}
    for edit in guard.edits:
        text = texts.get(edit.file) or (ROOT / edit.file).read_text()
        if text.count(edit.before) != 1:
            raise Stale(guard, edit.file, text.count(edit.before))
        texts[edit.file] = text.replace(edit.before, edit.after)
    return texts


@contextmanager
def mutant(guard: Guard) -> Iterator[Path]:
    """A directory that holds the packages without `guard`, as long as this lasts. Raises `Stale`."""
    texts = edited(guard)
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        for package in PACKAGES:
            _copy(ROOT / package, Path(name) / package)
        for file, text in texts.items():
            (Path(name) / file).write_text(text)
        yield Path(name)


def _copy(source: Path, target: Path) -> None:
    # With what is compiled already: it is believed as long as times and sizes are those of the sources.
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy2(source, target)
