"""Which files of a directory are to be tracked, and which must not be. Nothing outside of it is ever looked at."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Final

from msgspec import Struct

from workers.kinds.below import DEEPEST, DIRECTORY, directory, wrong_with

__all__ = ["Found", "Selection", "Survey", "survey"]


class Selection(Struct, frozen=True, kw_only=True):
    """Which files: those whose name matches any of `include` and none of `exclude`. `*` is any text, `/` included."""

    include: tuple[str, ...]
    exclude: tuple[str, ...]

    def takes(self, name: str) -> bool:
        """Whether a name, relative and with `/`, is among them."""
        return _any(name, self.include) and not _any(name, self.exclude)


class Found(Struct, frozen=True):
    """A file, as it was when it was found."""

    name: str
    was: os.stat_result


class Survey(Struct):
    """What was found: files to be tracked, and what stands in the way, each name with why."""

    files: list[Found] = []
    unfit: dict[str, str] = {}
    is_cut: bool = False
    """There is more."""


def survey(root: int, where: Sequence[str], selection: Selection, *, most: int) -> Survey:
    """Look through the directory `where` below `root`, to its end or until more than `most` names were found.

    Raises `OSError` where there is none.
    """
    with directory(root, where) as top:
        walk = _Walk(selection, os.fstat(top).st_dev, most)
        walk.through(top, "")
    walk.survey.is_cut = walk.is_cut
    walk.refuse_shared()
    walk.survey.files.sort(key=lambda found: found.name)
    return walk.survey


class _Walk:
    def __init__(self, selection: Selection, device: int, most: int) -> None:
        self.survey = Survey()
        self._selection = selection
        self._device = device
        self._most = most
        self._names: dict[tuple[int, int], int] = {}
        """Of files with several names, how many were seen."""

    @property
    def is_cut(self) -> bool:
        """Whether it ended early, at more names than may be."""
        return len(self.survey.files) + len(self.survey.unfit) > self._most

    def through(self, folder: int, prefix: str) -> None:
        with os.scandir(folder) as entries:
            for entry in entries:
                self._look(folder, entry.name, prefix + entry.name)
                if self.is_cut:
                    break

    def _look(self, folder: int, name: str, path: str) -> None:
        try:
            was = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISDIR(was.st_mode):
                self._enter(folder, name, path)
            else:
                self._see(path, was)
        except OSError as error:
            # A directory that cannot be read may hold anything, so it does not matter what is asked for.
            self.survey.unfit[path] = f"cannot be read: {error.strerror}"

    def refuse_shared(self) -> None:
        """A file that has names elsewhere, too, may be anybody's."""
        for found in self.survey.files:
            if found.was.st_nlink > self._names.get(_identity(found.was), 1):
                self.survey.unfit[found.name] = "is a hard link to a file elsewhere"

    def _enter(self, folder: int, name: str, path: str) -> None:
        if path.count("/") + 1 >= DEEPEST:
            self.survey.unfit[path] = "is nested too deep"
            return
        inner = os.open(name, DIRECTORY, dir_fd=folder)
        try:
            if os.fstat(inner).st_dev == self._device:
                self.through(inner, f"{path}/")
            else:
                self.survey.unfit[path] = "is of another file system"
        finally:
            os.close(inner)

    def _see(self, path: str, was: os.stat_result) -> None:
        if stat.S_ISREG(was.st_mode) and was.st_nlink > 1:
            self._names[_identity(was)] = self._names.get(_identity(was), 0) + 1
        if not self._selection.takes(path):
            return
        wrong = "" if stat.S_ISREG(was.st_mode) else f"is {_KINDS.get(stat.S_IFMT(was.st_mode), 'no file')}"
        name_wrong = wrong_with(path)
        if wrong or name_wrong:
            self.survey.unfit[path] = wrong or f"has a name that {name_wrong}"
        else:
            self.survey.files.append(Found(path, was))


def _identity(was: os.stat_result) -> tuple[int, int]:
    return was.st_dev, was.st_ino


def _any(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


_KINDS: Final = {
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}
