"""`python -m tests.mutation`: take each guard of the protocol away, and see the simulation notice.

Exits 1 where a guard is not missed; 2 where the table no longer fits the source, or a history is broken anyway.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.mutation.guard import Guard
from tests.mutation.guards import GUARDS
from tests.mutation.hunt import Finding, false_alarm, hunt
from tests.mutation.mutant import Stale, edited


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module's own words."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="guards with this in their name")
    parser.add_argument("--seeds", type=int, default=200, help="how many histories each is looked for in")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--list", action="store_true", help="the guards, and what each protects")
    options = parser.parse_args(arguments)
    guards = [guard for guard in GUARDS if not options.only or any(name in guard.name for name in options.only)]
    try:
        for guard in guards:
            edited(guard)
    except Stale as stale:
        print(stale)
        return 2
    if options.list:
        for guard in guards:
            print(f"{guard.name:32} {guard.protects}")
        return 0
    return _hunt_all(guards, options.seeds, options.jobs)


def _hunt_all(guards: Sequence[Guard], seeds: int, jobs: int) -> int:
    began = time.monotonic()
    missed, noticed = [], []
    print(f"{'guard':32} {'seed':>5} {'tried':>5}  what was broken first")
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        for finding in pool.map(lambda guard: hunt(guard, seeds), guards):
            print(_row(finding), flush=True)
            if finding.seed is None:
                missed.append(finding.guard.name)
            else:
                noticed.append(finding.seed)
    alarm = false_alarm(sorted({*noticed})) if noticed else ""
    if alarm:
        print(f"this proves nothing: also with every guard in its place, {alarm}")
        return 2
    seen = len(guards) - len(missed)
    print(f"{seen} of {len(guards)} guards are missed when they are gone; {time.monotonic() - began:.0f} s")
    if missed:
        print(f"nobody noticed in {seeds} histories that these were gone: {', '.join(missed)}")
    return 1 if missed else 0


def _row(finding: Finding) -> str:
    seed = "-" if finding.seed is None else str(finding.seed)
    return f"{finding.guard.name:32} {seed:>5} {finding.tried:>5}  {finding.what[:140] or 'NOT NOTICED'}"


if __name__ == "__main__":
    sys.exit(main())
