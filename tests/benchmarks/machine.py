"""What the kernel tells of processes: memory, and time on a CPU."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from msgspec import Struct

from tests.chaos.machine import Seen, descendants, everything

__all__ = ["Cpu", "Memory", "cpu_since", "rss_mib", "tree"]

TICKS: Final = os.sysconf("SC_CLK_TCK")


class Memory(Struct):
    """A process's resident memory over time, in MiB, looked at evenly."""

    seen: list[float]

    @property
    def first(self) -> float:
        """At the beginning."""
        return self.seen[0]

    @property
    def last(self) -> float:
        """At the end."""
        return self.seen[-1]

    @property
    def most(self) -> float:
        """Its greatest."""
        return max(self.seen)

    @staticmethod
    async def watch(pid: int, every_s: float, done: Callable[[], bool]) -> Memory:
        """Look every so often until `done`."""
        memory = Memory([rss_mib(pid)])
        while not done():
            await asyncio.sleep(every_s)
            memory.seen.append(rss_mib(pid))
        return memory


class Cpu(Struct, frozen=True):
    """What a process, or several of one name, took of the machine."""

    name: str
    cores: float
    """Seconds on a CPU in each second."""


def rss_mib(pid: int) -> float:
    """Resident memory of a process now, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return round(int(line.split()[1]) / 1024, 1)
    raise ProcessLookupError(f"process {pid} has ended")


def tree(root: int) -> list[Seen]:
    """A process and all below it."""
    there = everything()
    below = descendants([root], there)
    return [seen for seen in there if seen.pid == root or seen.pid in below]


def cpu_since(root: int, label: Callable[[Seen], str]) -> Callable[[], list[Cpu]]:
    """What everything below `root` takes from now on, by label: call the result at the end."""
    before, began = _seconds(tree(root)), time.monotonic()

    def taken() -> list[Cpu]:
        lasted = time.monotonic() - began
        totals: dict[str, float] = {}
        now = tree(root)
        after = _seconds(now)
        for seen in now:
            totals[label(seen)] = totals.get(label(seen), 0.0) + after[seen] - before.get(seen, 0.0)
        found = [Cpu(name, round(seconds / lasted, 2)) for name, seconds in totals.items()]
        return sorted(found, key=lambda cpu: -cpu.cores)

    return taken


def _seconds(processes: Iterable[Seen]) -> dict[Seen, float]:
    return {seen: _cpu_s(seen.pid) for seen in processes}


def _cpu_s(pid: int) -> float:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
        return 0.0
    fields = stat[stat.rindex(")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
