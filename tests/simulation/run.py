"""One seed, from its history to its verdict."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import anyio
from trio.testing import MockClock

from contracts import subjects
from tests.simulation.frozen import repeatable
from tests.simulation.history import LEAST_FAULTS, LEAST_JOBS, history
from tests.simulation.judge import judge
from tests.simulation.lean import lean
from tests.simulation.world import World

__all__ = ["Outcome", "simulate"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a seed."""

    seed: int
    broken: list[str]
    """Every promise that was broken, in words."""
    struck: Counter[tuple[str, str, str]]
    """Fault, step and side."""
    jobs: int
    events: int
    executions: int
    shared: list[int]
    """Jobs in each call that several shared."""
    trace: list[str]


def simulate(seed: int, *, trace: bool = False) -> Outcome:
    """Live through a seed's history, and judge it."""
    rng = random.Random(seed)
    clock = MockClock(autojump_threshold=0)
    with repeatable(seed), lean(clock), _in_silence():
        return anyio.run(_simulate, seed, rng, trace, backend="trio", backend_options={"clock": clock})


@contextmanager
def _in_silence() -> Iterator[None]:
    """Nothing is logged: faults by the thousand would be."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


async def _simulate(seed: int, rng: random.Random, trace: bool) -> Outcome:
    world = World(history(seed, rng), rng, trace=trace)
    await world.live()
    # `orchestration.<kind>.<event>.<job_id>`: kind and id make a job.
    jobs = len({(subject.split(".")[1], subject.split(".")[3]) for subject in _subjects(world)})
    broken = judge(world)
    if jobs < LEAST_JOBS or world.strikes.struck.total() < LEAST_FAULTS:
        broken.append(f"too tame: {jobs} jobs, {world.strikes.struck.total()} faults")
    return Outcome(
        seed=seed,
        broken=broken,
        struck=world.strikes.struck,
        jobs=jobs,
        events=world.newest(),
        executions=len(world.ledger.entries),
        shared=[len(keys) for keys in world.ledger.shared if len(keys) > 1],
        trace=world.trace or [],
    )


def _subjects(world: World) -> list[str]:
    return [message.subject for message in world.server.streams[subjects.EVENTS].messages()]
