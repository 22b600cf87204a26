"""`python -m tests.mutation.trial 4 17 23`, in a mutant's directory: seed after seed, until a promise is broken.

Prints `trying <seed>` before each, and `caught <seed> <what was broken>` at the end, if anything was. A history that
does not end is ended by SIGALRM, and this process with it.
"""

from __future__ import annotations

import gc
import signal
import sys
from pathlib import Path
from typing import Final

import workers
from tests.simulation.run import simulate

A_SEED_S: Final = 40
"""What a history may take on a busy machine; on a quiet one it needs a fraction of a second."""


def main() -> None:
    """Try the seeds in the order in which they are given."""
    here = Path.cwd()
    assert Path(workers.__file__).is_relative_to(here), f"{workers.__file__} is not the mutant in {here}"
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)
    for seed in map(int, sys.argv[1:]):
        print(f"trying {seed}", flush=True)
        signal.alarm(A_SEED_S)
        broken = _broken(seed)
        if broken:
            print(f"caught {seed} {broken[0]}")
            return


def _broken(seed: int) -> list[str]:
    try:
        return simulate(seed).broken
    except Exception as error:  # noqa: BLE001  whatever a mutant makes of a history, it is noticed
        return [f"{type(error).__name__}: {error}"]


if __name__ == "__main__":
    main()
