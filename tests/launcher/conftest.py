"""The command line without a process of its own, for all that needs none."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from workers.launcher import main


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def jetray(tmp_path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`jetray ARGUMENTS`, called in an empty directory, without settings in the environment."""
    for name in os.environ:
        if name.startswith("JETRAY_") or name in ("NATS_URL", "RAY_ADDRESS"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)

    def run(*arguments: str, stdin: str = "", **variables: str) -> Done:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        try:
            status = main(arguments)
        except SystemExit as end:
            status = int(end.code or 0)
        finally:
            # What was imported from the directory of one test is not there for the next.
            for name in set(sys.modules) - known:
                if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
                    del sys.modules[name]
        out, err = capsys.readouterr()
        return Done(status, out, err)

    return run
