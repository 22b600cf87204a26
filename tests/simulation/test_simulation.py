"""A few histories in the unit suite; `make simulate` runs many more."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from trio.testing import MockClock

from contracts.headers import EXPECTED_FILTER, EXPECTED_SEQUENCE
from tests.simulation.faults import FAULTS, STEPS, can_strike, sides_of, step_of
from tests.simulation.frozen import OWNER, Freezer, install, repeatable
from tests.simulation.history import LEAST_FAULTS, LEAST_JOBS
from tests.simulation.run import simulate
from workers.runtime.journal import Journal

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seed", range(4))
def test_a_history_keeps_every_promise(seed: int) -> None:
    outcome = simulate(seed)
    assert outcome.broken == []
    assert outcome.jobs >= LEAST_JOBS
    assert outcome.struck.total() >= LEAST_FAULTS


def test_a_seed_repeats_exactly() -> None:
    first, second = simulate(7, trace=True), simulate(7, trace=True)
    assert len(first.trace) > 1_000
    assert first.trace == second.trace


def test_a_guard_that_is_missing_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    headers_of = Journal._headers

    def without_guard(*arguments: Any) -> dict[str, str]:
        headers = headers_of(*arguments)
        return {name: value for name, value in headers.items() if name not in (EXPECTED_SEQUENCE, EXPECTED_FILTER)}

    monkeypatch.setattr(Journal, "_headers", without_guard)
    assert any("terminal events" in what for seed in range(3) for what in simulate(seed).broken)


def test_other_seeds_are_other_histories() -> None:
    assert simulate(8, trace=True).trace != simulate(9, trace=True).trace


def test_every_step_can_be_struck_and_every_fault_can_strike() -> None:
    for step in STEPS:
        assert any(can_strike(fault, step, side) for fault in FAULTS for side in sides_of(step))
    for fault in FAULTS:
        assert any(can_strike(fault, step, side) for step in STEPS for side in sides_of(step))


@pytest.mark.parametrize(
    ("op", "subject", "step"),
    [
        ("publish", "orchestration.talk.started.j1", "started"),
        ("publish", "dlq.talk.j1", "dlq"),
        ("publish", "workers.control.done.gw-1", "answer"),
        ("publish", "workers.gateway.started.gw-1", None),
        ("publish", "$KV.workers.gw-1", None),
        ("last", "orchestration.talk.*.j1", "read"),
        ("ack", "jobs.talk", "ack"),
        ("ack", "control.cancel.talk.j1", "command ack"),
        ("in_progress", "jobs.talk", "renew"),
        ("consumer", "JOBS.talk", None),
    ],
)
def test_steps_are_told_from_operations(op: str, subject: str, step: str | None) -> None:
    assert step_of(op, subject) == step
    assert step is None or step in STEPS


def test_what_is_frozen_does_nothing_and_makes_up_for_it_when_thawed() -> None:
    ticks: list[float] = []

    async def tick(freezer: Freezer) -> None:
        OWNER.set(freezer)
        while True:
            await anyio.sleep(1)
            ticks.append(anyio.current_time())

    async def main() -> None:
        install()
        freezer = Freezer()
        async with anyio.create_task_group() as group:
            group.start_soon(tick, freezer)
            await anyio.sleep(2.5)
            freezer.freeze()
            await anyio.sleep(4)
            freezer.thaw()
            await anyio.sleep(1.2)
            group.cancel_scope.cancel()

    with repeatable(0):
        anyio.run(main, backend="trio", backend_options={"clock": MockClock(autojump_threshold=0)})
    assert ticks == [1, 2, 6.5, 7.5]
