"""Jetray beside others in one run, and `profile`: where a gateway's time goes."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from tests.benchmarks import plot
from tests.benchmarks import profile as profiles
from tests.benchmarks import report as reports
from tests.benchmarks.backlog import backlog
from tests.benchmarks.batches import batches
from tests.benchmarks.latency import latency
from tests.benchmarks.long import long
from tests.benchmarks.overload import overload
from tests.benchmarks.results import Findings, Plan
from tests.benchmarks.start import start
from tests.benchmarks.throughput import CONTENDERS, throughput
from tests.benchmarks.two import two

SECTIONS: Final[dict[str, Callable[[Plan], Awaitable[Findings]]]] = {
    "throughput": throughput,
    "latency": latency,
    "backlog": backlog,
    "long": long,
    "two": two,
    "overload": overload,
    "batches": batches,
    "start": start,
}
QUICK_JOBS: Final = 1_000


def main() -> int:
    """1 where results were not what they had to be, or, with `--check`, where a target was missed."""
    if sys.argv[1:2] == ["profile"]:
        return _heeding_signals(_profile(_profile_options(sys.argv[2:])))
    return _heeding_signals(_measure(_options()))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sections", nargs="*", metavar="section", help=f"of {', '.join(SECTIONS)}; all unless named")
    parser.add_argument("--rounds", type=int, default=3, help="of each, in turns")
    parser.add_argument("--jobs", type=int, default=20_000, help="in a round; what is slow gets a part of them")
    parser.add_argument("--quick", action="store_true", help=f"see that it works: one round of {QUICK_JOBS} jobs")
    parser.add_argument("--only", default="", help="of throughput, these contenders: jetray,nats_alone")
    parser.add_argument("--check", action="store_true", help="exit 1 where a target is missed")
    parser.add_argument("--out", type=Path, default=Path("build"), help="folder for bench.json and bench.png")
    options = parser.parse_args()
    options.only = [name for name in options.only.split(",") if name]
    _check(parser, "section", options.sections, list(SECTIONS))
    _check(parser, "contender", options.only, [contender.name for contender in CONTENDERS])
    return options


def _check(parser: argparse.ArgumentParser, what: str, asked: Sequence[str], known: Sequence[str]) -> None:
    unknown = [name for name in asked if name not in known]
    if unknown:
        parser.error(f"there is no {what} {', '.join(unknown)}; there are {', '.join(known)}")


async def _measure(options: argparse.Namespace) -> int:
    console = _console()
    plan = Plan(
        rounds=1 if options.quick else options.rounds,
        jobs=QUICK_JOBS if options.quick else options.jobs,
        quick=options.quick,
        say=lambda line: console.print(f"{time.strftime('%H:%M:%S')} {line}", markup=False, highlight=False),
        only=options.only,
    )
    found: dict[str, Findings] = {}
    ran_on = reports.about()
    for name in options.sections or SECTIONS:
        found[name] = await SECTIONS[name](plan)
        # After each section, so that what was measured stays whatever happens to the next.
        reports.write(reports.document(plan, ran_on, found), options.out / "bench.json")
    reports.show(found, console)
    drawn = plot.draw(reports.document(plan, ran_on, found), options.out / "bench.png")
    console.print(f"in {options.out}: bench.json{', bench.png' if drawn else '; no plot without matplotlib'}")
    missed = any(not target.met for findings in found.values() for target in findings.targets)
    wrong = any(findings.wrong for findings in found.values())
    return 1 if wrong or (options.check and missed) else 0


def _profile_options(arguments: list[str]) -> profiles.Options:
    defaults = profiles.Options()
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks profile", description=profiles.__doc__)
    parser.add_argument("--seconds", type=float, default=defaults.seconds, help="how long to look")
    parser.add_argument("--jobs", type=int, default=defaults.jobs, help="that are queued before")
    parser.add_argument("--kind", default=defaults.kind, help="digest is short, nap waits 100 ms")
    parser.add_argument("--rate", type=int, default=defaults.rate, help="samples a second")
    parser.add_argument("--top", type=int, default=defaults.top, help="functions to print")
    parser.add_argument("--native", action="store_true", help="also what C and C++ do")
    parser.add_argument("--gil", action="store_true", help="only threads that hold the GIL")
    parser.add_argument("--out", type=Path, default=defaults.out, help="folded stacks")
    return profiles.Options(**vars(parser.parse_args(arguments)))


async def _profile(options: profiles.Options) -> int:
    return await profiles.profile(options, _console())


def _console() -> Console:
    # Into a file or a pipe, tables take the room that they need.
    return Console() if sys.stdout.isatty() else Console(width=120)


def _heeding_signals(work: Coroutine[Any, Any, int]) -> int:
    async def guarded() -> int:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, task.cancel)
        return await work

    try:
        return asyncio.run(guarded())
    except asyncio.CancelledError:
        print("broken off; everything it started is ended", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
