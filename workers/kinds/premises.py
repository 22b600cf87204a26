"""A process that runs one job at a time: its working directory is that of the attempt, and its environment says so."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from workers.kinds.storage import StorageError

__all__ = ["OUTPUT_DIR", "PROJECT_DIR", "Premises"]

OUTPUT_DIR: Final = "JETRAY_OUTPUT_DIR"
"""The attempt's `output`."""
PROJECT_DIR: Final = "JETRAY_PROJECT_DIR"
"""Where the process works between jobs: as the gateway, or in the `working_dir` of its profile's `runtime_env`."""


class Premises:
    """This process, as a place for one job at a time. Modules that were found below its working directory still are."""

    def __init__(self) -> None:
        self._home = _working_directory()
        self._was = {name: os.environ.get(name) for name in (OUTPUT_DIR, PROJECT_DIR)}
        sys.path[:] = [_absolute(entry, self._home) for entry in sys.path]
        if entries := os.environ.get("PYTHONPATH"):
            # For what a job starts.
            found = [_absolute(entry, self._home) for entry in entries.split(os.pathsep)]
            os.environ["PYTHONPATH"] = os.pathsep.join(found)

    @contextmanager
    def lent(self, workspace: Path) -> Iterator[None]:
        """Within the block relative names lie in the workspace. Raises `StorageError` where it is gone."""
        try:
            os.chdir(workspace)
        except OSError as error:
            raise StorageError(f"the workspace cannot be worked in: {error.strerror}") from error
        try:
            os.environ[OUTPUT_DIR] = f"{workspace}/output"
            os.environ[PROJECT_DIR] = self._home
            yield
        finally:
            for name, was in self._was.items():
                _restore(name, was)
            self._return()

    def _return(self) -> None:
        try:
            os.chdir(self._home)
        except OSError:
            # It is gone; so will be the workspace.
            os.chdir("/")


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # somebody removed it
        return "/"


def _absolute(entry: str, home: str) -> str:
    """An entry of a search path, wherever the process works. What is nowhere may be a name for some import hook."""
    if os.path.isabs(entry) or not os.path.exists(entry or os.curdir):
        return entry
    return os.path.normpath(os.path.join(home, entry))


def _restore(name: str, was: str | None) -> None:
    if was is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = was
