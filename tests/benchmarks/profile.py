"""Where a gateway's time goes: py-spy on `jetray worker` under load, and what each process takes of the machine.

    python -m tests.benchmarks profile [--seconds 20] [--native] [--gil] [--top 30]

The raw stacks stay in build/profile.raw; flame graph programs and speedscope.app read them.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sysconfig
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct
from rich.console import Console
from rich.table import Table

from tests.benchmarks.gateway import gateway, kind_lane, prepare
from tests.benchmarks.jobs import jobs
from tests.benchmarks.lane import hold, release, warm_up
from tests.benchmarks.machine import Cpu, cpu_since
from tests.benchmarks.publisher import fill
from tests.benchmarks.stage import Stage, stage
from tests.chaos.machine import Seen

__all__ = ["Options", "Share", "profile", "shares"]

SETTLE_S: Final = 2.0
_ADDRESS: Final = re.compile(r":\d+\)$")


class Share(Struct, frozen=True):
    """A function's part of all samples, from 0 to 1."""

    function: str
    own: float
    """At the top of the stack."""
    total: float
    """Anywhere in it."""


class Options(Struct, frozen=True):
    """What to look at, and how."""

    seconds: float = 20.0
    jobs: int = 200_000
    kind: str = "digest"
    rate: int = 250
    top: int = 30
    native: bool = False
    gil: bool = False
    out: Path = Path("build/profile.raw")


async def profile(options: Options, console: Console) -> int:
    """Load a gateway, look at it, print what was seen; 0, or 1 where there is no py-spy."""
    spy = _py_spy()
    if spy is None:
        console.print("profile: there is no py-spy here; `make bench-profile` installs it")
        return 1
    lane = kind_lane(options.kind)
    async with stage("profile") as on:
        environment = await prepare(on)
        async with gateway(on, environment) as process:
            await warm_up(on, lane, [process], 500)
            await hold(on, lane)
            console.print(f"filling {options.jobs:,} jobs")
            *owed, last = jobs("p", options.jobs)
            await fill(on.url, map(lane.message, owed))
            await release(on, lane, last)
            await asyncio.sleep(SETTLE_S)
            cpus = cpu_since(os.getpid(), _label)
            before, began = await _completed(on), time.monotonic()
            options.out.parent.mkdir(parents=True, exist_ok=True)
            await _record(spy, process.pid, options)
            rate = (await _completed(on) - before) / (time.monotonic() - began)
            used = cpus()
            left = await on.messages(lane.stream)
    _print(console, options, rate, used, left)
    return 0


def shares(folded: Iterable[str]) -> list[Share]:
    """Functions in folded stacks (`outer (file:1);inner (file:2) 17`), by their own time."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    samples = 0
    for line in folded:
        stack, _, count = line.rstrip().rpartition(" ")
        if not count.isdigit():
            continue
        frames = [
            _ADDRESS.sub(")", frame) for frame in stack.split(";") if not frame.startswith(("process ", "thread "))
        ]
        samples += int(count)
        own[frames[-1]] += int(count)
        for frame in set(frames):
            total[frame] += int(count)
    found = [Share(name, own[name] / samples, count / samples) for name, count in total.items()]
    return sorted(found, key=lambda share: (-share.own, -share.total))


async def _record(spy: str, pid: int, options: Options) -> None:
    flags = [flag for flag, wanted in (("--native", options.native), ("--gil", options.gil)) if wanted]
    command = [
        spy, "record", "--pid", str(pid), "--format", "raw", "--output", str(options.out), "--nonblocking",
        "--rate", str(options.rate), "--duration", str(round(options.seconds)), *flags,
    ]  # fmt: skip
    recorder = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await recorder.communicate()
    if recorder.returncode:
        raise RuntimeError(f"py-spy ended with {recorder.returncode}: {said.decode(errors='replace')[-500:]}")


async def _completed(on: Stage) -> int:
    """Jobs done so far, from the number of their events."""
    return await on.last("EVENTS") // 2


def _py_spy() -> str | None:
    beside = Path(sysconfig.get_path("scripts")) / "py-spy"
    return str(beside) if beside.exists() else shutil.which("py-spy")


def _label(seen: Seen) -> str:
    """A process in words."""
    known = {
        "workers worker": "gateway",
        "nats-server": "nats-server",
        "ray::JobActor": "actors",
        "raylet/raylet": "raylet",
        "gcs_server": "gcs",
        "py-spy": "py-spy",
        "tests.benchmarks": "this benchmark",
    }
    return next((label for word, label in known.items() if word in seen.name), "other (Ray's agents)")


def _print(console: Console, options: Options, rate: float, used: Sequence[Cpu], left: int) -> None:
    found = shares(options.out.read_text(encoding="utf-8", errors="replace").splitlines())
    # What leads to everything tells nothing.
    most = max((share.total for share in found), default=0.0)
    inner = [share for share in found if share.total < most]
    by_total = sorted(inner, key=lambda share: -share.total)
    for title, listed in (("by own time", found), ("with what it called", by_total)):
        table = Table(title=title, title_justify="left")
        for column in ("own %", "total %"):
            table.add_column(column, justify="right")
        table.add_column("function", overflow="fold")
        for share in listed[: options.top]:
            table.add_row(f"{share.own * 100:.1f}", f"{share.total * 100:.1f}", share.function)
        console.print(table)
    table = Table("process", "cores", title="of the machine", title_justify="left")
    for cpu in used:
        table.add_row(cpu.name, f"{cpu.cores:.2f}")
    console.print(table)
    console.print(f"{rate:,.0f} jobs/s while it was watched; {left:,} left; stacks in {options.out}")
    if not left:
        console.print("the queue ran dry: more --jobs show more")
