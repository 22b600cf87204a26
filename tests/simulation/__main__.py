"""`python -m tests.simulation --seeds 200`: histories under faults, judged; `--seed 7 --trace` tells one of them."""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.faults import FAULTS, STEPS, FaultKind, Side, can_strike, sides_of
from tests.simulation.run import simulate


def main() -> int:
    """1 where a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many histories")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--trace", action="store_true", help="with --seed: tell what happens")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    options = parser.parse_args()
    if options.seed is not None:
        return _tell_one(options.seed, trace=options.trace)
    return _run_many(range(options.first, options.first + options.seeds), options.jobs)


def _tell_one(seed: int, *, trace: bool) -> int:
    outcome = simulate(seed, trace=trace)
    for line in outcome.trace:
        print(line)
    for what in outcome.broken:
        print(f"seed {seed}: {what}")
    print(f"seed {seed}: {outcome.jobs} jobs, {outcome.events} events, {sum(outcome.struck.values())} faults")
    return 1 if outcome.broken else 0


def _run_many(seeds: range, jobs: int) -> int:
    began = time.perf_counter()
    struck: Counter[tuple[str, str, str]] = Counter()
    totals: Counter[str] = Counter()
    failing: list[int] = []
    with ProcessPoolExecutor(max_workers=jobs, initializer=_collect_seldom) as processes:
        for outcome in processes.map(simulate, seeds, chunksize=4):
            struck += outcome.struck
            totals += Counter(jobs=outcome.jobs, events=outcome.events, executions=outcome.executions)
            totals += Counter(calls=len(outcome.shared), together=sum(outcome.shared))
            for what in outcome.broken[:5]:
                print(f"seed {outcome.seed}: {what}", flush=True)
            if outcome.broken:
                failing.append(outcome.seed)
    print(_table(struck))
    print(
        f"{len(seeds)} histories in {time.perf_counter() - began:.0f} s: {totals['jobs']} jobs, {totals['events']} "
        f"events, {totals['executions']} executions of user code, {struck.total()} faults; "
        f"{totals['together']} attempts shared {totals['calls']} calls"
    )
    if failing:
        print(f"{len(failing)} broke a promise; failing seeds: {' '.join(map(str, failing))}")
        return 1
    print("no promise was broken")
    return 0


def _collect_seldom() -> None:
    """A history is over before its garbage matters; looking for it at the usual pace costs a sixth of the time."""
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


def _table(struck: Counter[tuple[str, str, str]]) -> str:
    """How often each fault struck at each step, before and after it; `·` where it cannot strike."""
    lines = ["fault x step".ljust(16) + "".join(f"{fault:>15}" for fault in FAULTS)]
    for step in STEPS:
        cells = ("/".join(_cell(struck, fault, step, side) for side in sides_of(step)) for fault in FAULTS)
        lines.append(step.ljust(16) + "".join(f"{cell:>15}" for cell in cells))
    return "\n".join(lines)


def _cell(struck: Counter[tuple[str, str, str]], fault: FaultKind, step: str, side: Side) -> str:
    return str(struck[fault, step, side]) if can_strike(fault, step, side) else "·"


if __name__ == "__main__":
    sys.exit(main())
