"""`python -m tests.fuzz --inputs 1000000`: broken inputs for every decoder; exits 1 where one does what none may."""

from __future__ import annotations

import argparse
import random
import sys

from tests.fuzz.decoders import decoders
from tests.fuzz.run import Report, fuzz


def main() -> int:
    """1 where a decoder did what none may."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="how many inputs")
    parser.add_argument("--seed", type=int, help="what to draw them from; another one each time unless given")
    parser.add_argument("--processes", type=int, default=2, help="how many processes")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    report = fuzz(decoders, inputs=options.inputs, seed=seed, processes=options.processes, tell=_tell)
    print("\r" + _table(report))
    for failure in report.failures:
        print(f"{failure.decoder}: {failure.what}\n    {failure.data!r}")
    print(
        f"seed {seed}, {options.processes} processes: {report.inputs:,} inputs in {report.seconds:.0f} s, "
        f"{report.inputs / report.seconds:,.0f}/s; {len(report.failures) or 'none'} did what no decoder may"
    )
    return 1 if report.failures else 0


def _tell(line: str) -> None:
    if sys.stdout.isatty():
        print(f"\r{line}   ", end="", flush=True)


def _table(report: Report) -> str:
    lines = [f"{'decoder':<28}{'decoded':>10}{'refused':>10}"]
    for name in sorted({*report.decoded, *report.refused}):
        lines.append(f"{name:<28}{report.decoded[name]:>10,}{report.refused[name]:>10,}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
