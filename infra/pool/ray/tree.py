"""What a process has started, and what that has: for what Ray leaves behind. Linux alone."""

from __future__ import annotations

import os
import signal
from pathlib import Path

__all__ = ["kill_below"]


def kill_below(process: int) -> None:
    """Kill what a process has started, and what that has; itself it is left to bury them. Linux alone."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in brackets, may hold anything.
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    below = [*children.get(process, ())]
    for pid in below:
        below += children.get(pid, ())
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
