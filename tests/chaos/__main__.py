"""`python -m tests.chaos --minutes 25`: real parts under faults, judged; `python -m tests.chaos recovery`: timed.

Two worlds, one after the other: with one nats-server, whose death and whose full disk are an outage for everybody; and
with three, of which the leader dies, and everything else goes on.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final, get_args

from tests.chaos import phase as phases
from tests.chaos import report as reports
from tests.chaos.disk import NoDisk, own_mounts
from tests.chaos.phase import Outcome, Phase
from tests.chaos.world import RayPlace

SHARE_OF_ONE: Final = 0.6
"""Of the time and the jobs, what goes to the world with one server."""
AROUND_S: Final = 45.0
"""Of each world's time, what starting, ending and judging it take."""


def main() -> int:
    """1 where a promise was broken."""
    options = _options()
    try:
        own_mounts()
        can_mount = True
    except NoDisk as error:
        can_mount = False
        _say(f"no mounts of our own ({error}): the disk stays as it is")
    folder = Path(tempfile.mkdtemp(prefix="jetray-chaos-"))
    logging.basicConfig(filename=folder / "chaos.log", format="%(asctime)s %(name)s %(message)s", level=logging.INFO)
    _say(f"seed {options.seed}, in {folder}")
    if options.command == "recovery":
        from tests.chaos.recovery import measure

        status = _heeding_signals(measure(folder, options.places, options.rounds, _say))
    else:
        status = _heeding_signals(_all(options, folder, can_mount=can_mount))
    if status == 0 and not options.keep:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        _say(f"logs and stores are kept in {folder}")
    return status


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("command", nargs="?", choices=["run", "recovery"], default="run")
    parser.add_argument("--minutes", type=float, default=25.0, help="for all of it, about")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000), help="of jobs and faults")
    parser.add_argument("--jobs", type=int, default=20_000, help="to be published")
    parser.add_argument("--report", type=Path, default=Path("build/chaos.json"), help="JSON; the text goes beside it")
    parser.add_argument("--every", type=_range, default=(5.0, 15.0), help="seconds from one fault to the next: 5-15")
    parser.add_argument("--servers", type=int, choices=[1, 3], action="append", help="only worlds of so many")
    parser.add_argument(
        "--places", type=_places, default=("head", "local", "none"), help="each gateway's: head, local or none"
    )
    parser.add_argument("--rounds", type=int, default=5, help="of recovery: how often each")
    parser.add_argument("--keep", action="store_true", help="keep logs and stores also when nothing was broken")
    return parser.parse_args()


def _places(value: str) -> tuple[RayPlace, ...]:
    places = tuple(value.split(","))
    if not set(places) <= set(get_args(RayPlace)):
        raise argparse.ArgumentTypeError(f"each is one of {', '.join(get_args(RayPlace))}")
    return places  # type: ignore[return-value]


def _range(value: str) -> tuple[float, float]:
    least, _, most = value.partition("-")
    return float(least), float(most)


async def _all(options: argparse.Namespace, folder: Path, *, can_mount: bool) -> int:
    began = time.monotonic()
    outcomes: list[Outcome] = []
    for phase in _phases(options, can_mount=can_mount):
        outcome = await phases.run(phase, folder / phase.name, _say)
        outcomes.append(outcome)
        for what in outcome.violations[:20]:
            _say(f"{phase.name}: BROKEN: {what}")
    document = reports.document(outcomes, seed=options.seed, seconds=time.monotonic() - began)
    reports.write(document, options.report)
    print(reports.text(document), flush=True)
    _say(f"the report is in {options.report} and {options.report.with_suffix('.md')}")
    return 1 if document["violations"] else 0


def _phases(options: argparse.Namespace, *, can_mount: bool) -> list[Phase]:
    wanted = options.servers or [1, 3]
    seconds = options.minutes * 60 - AROUND_S * len(set(wanted))
    shares = {1: SHARE_OF_ONE, 3: 1 - SHARE_OF_ONE} if len(set(wanted)) == 2 else {wanted[0]: 1.0}
    return [
        Phase(
            name=f"r{servers}",
            servers=servers,
            places=options.places,
            seconds=max(20.0, seconds * share),
            jobs=round(options.jobs * share),
            seed=options.seed,
            between_s=options.every,
            small_disk=can_mount and servers == 1,
        )
        for servers, share in shares.items()
    ]


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
        _say("broken off; everything it started is ended")
        return 130


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S', time.gmtime())} {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
