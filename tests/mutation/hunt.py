"""Trials in processes of their own, and what they found."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.mutation.guard import Guard
from tests.mutation.mutant import ROOT, mutant

__all__ = ["Finding", "false_alarm", "hunt"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of a guard."""

    guard: Guard
    seed: int | None
    """The history that noticed; None where none did."""
    what: str
    """The first promise that was broken."""
    tried: int


def hunt(guard: Guard, seeds: int) -> Finding:
    """Try the known seed, then 0, 1, … `seeds` - 1, until one notices. Raises `Stale`."""
    order = list(dict.fromkeys((guard.seed, *range(seeds))))
    with mutant(guard) as where:
        lines = _lines(where, order)
    tried = sum(line.startswith("trying ") for line in lines)
    seed, what = _verdict(lines[-1])
    return Finding(guard, seed, what, tried)


def false_alarm(seeds: Sequence[int]) -> str:
    """What is broken in one of these histories without any guard missing; empty where nothing is."""
    seed, what = _verdict(_lines(ROOT, seeds)[-1])
    return "" if seed is None else f"seed {seed}: {what}"


def _lines(where: Path, order: Sequence[int]) -> list[str]:
    command = [sys.executable, "-m", "tests.mutation.trial", *map(str, order)]
    environment = {**os.environ, "PYTHONPATH": str(where)}
    done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    if done.returncode == -signal.SIGALRM:
        return [*lines, f"caught {lines[-1].split()[1]} the history did not end"]
    if done.returncode != 0:
        raise RuntimeError(f"the trial in {where} broke: {done.stderr[-2000:]}")
    return lines


def _verdict(last: str) -> tuple[int | None, str]:
    word, seed, *what = last.split(" ", 2)
    return (int(seed), what[0]) if word == "caught" else (None, "")
