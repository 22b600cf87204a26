"""Ten thousand variants, and three gateways that are killed on the way: exactly the work that was asked for, once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from msgspec import Struct

from contracts import events, subjects
from contracts.batch import BatchResult
from contracts.events import Completed, Event, Moved, Progress, Started, is_terminal
from infra.store.objects import ObjectStore
from tests.checker import Logs, logs, read_all, violations
from tests.integration.stack import Stack, stack

pytestmark = [
    pytest.mark.asyncio,
    pytest.mark.server,
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.proof,
    pytest.mark.timeout(400),
]

BATCH: Final = "B"
VARIANTS: Final = 10_000
SLOTS: Final = 16
SHARES: Final = (0.2, 0.45, 0.7)
"""How much of the batch is done when a gateway is killed."""
WITHIN_S: Final = 300
LEDGER: Final = "ledger"

KINDS: Final = f'''
import time
from pathlib import Path

from workers import workflow

ledger = Path({LEDGER!r}).open("ab", buffering=0)


@workflow("naps")
def nap(parameters: dict) -> dict:
    """Plain: it travels in company. It writes down that it really runs."""
    ledger.write(b"%d\\n" % parameters["number"])
    time.sleep(0.02)
    return {{"score": parameters["number"]}}
'''

SETTINGS: Final = f"""
routes = []
[kinds]
modules = ["some_kinds"]
[gateway]
ack_wait_s = 4
[profiles.default]
actors = {SLOTS}
cpus = 0.1
"""


class Kill(Struct, frozen=True, kw_only=True):
    """What was known once a gateway was dead."""

    after_s: float
    ended: frozenset[str]
    """Variants that had ended."""
    in_hand: frozenset[str]
    """Variants that had started, and had not ended."""
    ran: int
    """Runs that the ledger told of."""


async def test_a_batch_whose_gateway_is_killed_three_times_is_done_exactly_once(tmp_path: Path) -> None:
    (tmp_path / "some_kinds.py").write_text(KINDS)
    (tmp_path / "jetray.toml").write_text(SETTINGS)
    began = time.monotonic()
    async with stack(tmp_path) as jetray:
        names = [f"gw-{number}" for number in range(1, len(SHARES) + 2)]
        kills: list[Kill] = []
        async with asyncio.timeout(WITHIN_S):
            for name, share in zip(names, SHARES, strict=False):
                gateway = await jetray.gateway(name, ray="local", log=tmp_path / "log")
                if not kills:
                    await _publish(jetray)
                await _done(jetray, share)
                gateway.kill()
                await gateway.wait()
                kills.append(await _kill(jetray, tmp_path, time.monotonic() - began))
            await jetray.gateway(names[-1], ray="local", log=tmp_path / "log")
            end = await jetray.end("batch", BATCH, within_s=WITHIN_S)
            await _nothing_left(jetray)
        found, ran = await logs(jetray.bus), _ran(tmp_path)
        _print_figures(found, ran, kills, time.monotonic() - began)
        assert isinstance(end, Completed), end
        await _judge_result(jetray, end)
        _judge_batch(found["batch", BATCH], names)
        _judge_variants(found, names)
        _judge_runs(found, ran, kills)
        assert violations(found, expected=[("variant", job_id) for job_id in _ids()]) == []
        assert await read_all(jetray.bus, subjects.DLQ, ">") == []


# What is done


def _ids() -> list[str]:
    return [f"{BATCH}-{number}" for number in range(VARIANTS)]


async def _publish(jetray: Stack) -> None:
    variants = [{"name": str(number), "parameters": {"number": number}} for number in range(VARIANTS)]
    await jetray.publish(
        "jobs.batch", msgspec.json.encode({"batch_id": BATCH, "workflow": "naps", "variants": variants})
    )


async def _done(jetray: Stack, share: float) -> None:
    """Return once the batch says that so much of it is done."""
    async with aclosing(jetray.bus.follow(subjects.EVENTS, f"orchestration.batch.progress.{BATCH}")) as told:
        async for message in told:
            event = events.decode(message.body)
            assert isinstance(event, Progress)
            if event.done is not None and event.done >= share * VARIANTS:
                return


async def _kill(jetray: Stack, folder: Path, after_s: float) -> Kill:
    found = {job_id: log for (kind, job_id), log in (await logs(jetray.bus)).items() if kind == "variant"}
    ended = frozenset(job_id for job_id, log in found.items() if is_terminal(log[-1]))
    return Kill(after_s=after_s, ended=ended, in_hand=frozenset(found.keys() - ended), ran=len(_ran(folder)))


async def _nothing_left(jetray: Stack) -> None:
    """Return once every message was acknowledged."""
    while True:
        info: dict[str, Any] = await jetray.bus.api(f"STREAM.INFO.{subjects.JOBS}", None)
        if info["state"]["messages"] == 0:
            return
        await asyncio.sleep(0.2)


def _ran(folder: Path) -> list[str]:
    """The variants that really ran, in order, each as often as it did."""
    return [f"{BATCH}-{line}" for line in (folder / LEDGER).read_text().splitlines()]


# What must have come of it


async def _judge_result(jetray: Stack, end: Completed) -> None:
    moved = msgspec.json.decode(end.result, type=Moved)
    told = msgspec.json.decode(await ObjectStore(jetray.bus, subjects.ARTIFACTS).get(moved.artifact), type=BatchResult)
    assert told.counts == {"completed": VARIANTS, "failed": 0, "cancelled": 0, "refused": 0, "total": VARIANTS}
    rows = [(row.name, row.outcome, row.score) for row in told.comparison]
    assert rows == [(str(number), "completed", number) for number in reversed(range(VARIANTS))]


def _judge_batch(log: Sequence[Event], names: Sequence[str]) -> None:
    assert [event.gateway for event in log if isinstance(event, Started)] == names, "each took the batch over"
    told = [event for event in log if isinstance(event, Progress)]
    done = [event.done or 0 for event in told]
    assert done == sorted(done), "progress goes back"
    assert {event.total for event in told} == {VARIANTS}
    assert done[-1] == VARIANTS
    assert isinstance(log[-1], Completed)


def _judge_variants(found: Logs, names: Sequence[str]) -> None:
    """One log each, one end each; and only a death opens another attempt."""
    of_variants = {job_id: log for (kind, job_id), log in found.items() if kind == "variant"}
    assert of_variants.keys() == set(_ids())
    for job_id, log in of_variants.items():
        *before, end = log
        assert isinstance(end, Completed), f"{job_id} ended by {end}"
        assert [event for event in before if not isinstance(event, Started)] == [], job_id
        lives = [names.index(event.gateway) for event in before]
        assert lives == sorted(set(lives)), f"{job_id} began twice with one gateway: {lives}"


def _judge_runs(found: Logs, ran: Sequence[str], kills: Sequence[Kill]) -> None:
    assert all(kill.in_hand for kill in kills), "a death that interrupts nothing proves nothing"
    for kill, share in zip(kills, SHARES, strict=True):
        assert share * VARIANTS <= len(kill.ended) < VARIANTS
        again = kill.ended.intersection(ran[kill.ran :])
        assert not again, f"had ended, and ran again: {sorted(again)[:10]}"
    assert set(ran) == set(_ids())
    for job_id, times in Counter(ran).items():
        assert times <= sum(isinstance(event, Started) for event in found["variant", job_id]), f"{job_id} ran in secret"


def _print_figures(found: Logs, ran: Sequence[str], kills: Sequence[Kill], seconds: float) -> None:
    attempts = Counter(log[-1].attempt for (kind, _), log in found.items() if kind == "variant")
    print()
    for kill in kills:
        print(f"killed after {kill.after_s:.1f} s: {len(kill.ended)} had ended, {len(kill.in_hand)} were in hand")
    tried = ", ".join(f"{count} in attempt {attempt}" for attempt, count in sorted(attempts.items()))
    print(f"over after {seconds:.1f} s: {len(ran)} runs of {len(set(ran))} variants; ended: {tried}")
