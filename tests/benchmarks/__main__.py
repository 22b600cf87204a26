"""Jetray beside others in one run, and `profile`: where a gateway's time goes."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.benchmarks import profile as profiles


def main() -> int:
    """1 where something is wrong."""
    options = _options()
    return _heeding_signals(options.run(options))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="SECTION")
    _add_profile(commands)
    return parser.parse_args()


def _add_profile(commands: Any) -> None:
    defaults = profiles.Options()
    parser = commands.add_parser("profile", help="py-spy on a gateway under load")
    parser.add_argument("--seconds", type=float, default=defaults.seconds, help="how long to look")
    parser.add_argument("--jobs", type=int, default=defaults.jobs, help="that are queued before")
    parser.add_argument("--kind", default=defaults.kind, help="digest is short, nap waits 100 ms")
    parser.add_argument("--rate", type=int, default=defaults.rate, help="samples a second")
    parser.add_argument("--top", type=int, default=defaults.top, help="functions to print")
    parser.add_argument("--native", action="store_true", help="also what C and C++ do")
    parser.add_argument("--gil", action="store_true", help="only threads that hold the GIL")
    parser.add_argument("--out", type=Path, default=defaults.out, help="folded stacks")
    parser.set_defaults(run=_profile)


async def _profile(options: argparse.Namespace) -> int:
    fields = {name: getattr(options, name) for name in profiles.Options.__struct_fields__}
    return await profiles.profile(profiles.Options(**fields), Console())


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
