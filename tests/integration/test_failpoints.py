"""`kill -9` of the gateway before and after every await of the job path: whatever it was about recovers.

The table that is printed (`-s`) tells, for each step and side, how long after the gateway's death the next attempt
began, where the job needed one; the lease is two seconds, and part of the time is what a gateway takes to start.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest

from contracts.events import Started
from infra.bus.embedded import nats_server
from infra.bus.nats import connect
from tests.checker import logs
from tests.integration import scenarios as s
from tests.integration.failpoint_kinds import ACK_WAIT_S, KINDS, SETTINGS
from tests.integration.scenarios import Expected, Lane, Scenario
from tests.simulation.faults import Side

pytestmark = [pytest.mark.asyncio, pytest.mark.server, pytest.mark.slow, pytest.mark.proof, pytest.mark.timeout(600)]

LANES: Final = 4
COMES_BY_S: Final = 30.0
ACK_WAIT: Final = "JETRAY_GATEWAY_ACK_WAIT_S"
CROWDED: Final = {"JETRAY_RETRY_DELAYED": "2"}

BRIEF = Scenario(name="brief", drive=s.one("brief", "completed"))
CROWD = Scenario(name="crowd", drive=s.crowd)
SLOW = Scenario(name="slow", drive=s.one("slow", "completed"))
LARGE = Scenario(name="large", drive=s.one("large", "completed"))
TALKER = Scenario(name="talker", drive=s.one("talker", "completed"))
ONCE = Scenario(name="once", drive=s.one("once", "completed"))
NEVER = Scenario(name="never", drive=s.one("never", "failed", "user"))
NONSENSE = Scenario(name="nonsense", drive=s.nonsense)
HUGE = Scenario(name="huge", drive=s.huge)
ORPHANED = Scenario(
    name="orphaned",
    drive=s.orphaned,
    # Long, so that the first message is still leased when the second is looked at.
    environment={ACK_WAIT: "10"},
    first=(("run", "after", "1", ""),),
)
TWICE = Scenario(name="twice", drive=s.twice)
CONFLICT = Scenario(name="conflict", drive=s.conflict)
MOVES = Scenario(name="moves", drive=s.moves, environment=CROWDED)
CANCEL = Scenario(name="cancel", drive=s.cancel)
REPLAY = Scenario(name="replay", drive=s.replay)
DRAIN = Scenario(name="drain", drive=s.drain)
TERMINATE = Scenario(name="terminate", drive=s.terminate)
PAIR = Scenario(name="pair", drive=s.pair)
STRANGE = Scenario(name="strange", drive=s.strange)
CANCEL_BATCH = Scenario(name="cancel batch", drive=s.cancel_batch)
REPLAY_BATCH = Scenario(name="replay batch", drive=s.replay_batch)

AFTER: Final = ("pull", "command", "outcome", "shared outcome")
"""Steps that only end: before them the gateway waits, and has nothing in hand."""

TABLE: Final[tuple[tuple[Scenario, tuple[tuple[str, int, str], ...]], ...]] = (
    # Step, the how-manieth time, and what its subject contains.
    (BRIEF, (("pull", 1, ""), ("reserve", 1, ""), ("started", 1, ""), ("run", 1, ""), ("outcome", 1, ""))),
    (BRIEF, (("completed", 1, ""), ("ack", 1, ""))),
    (CROWD, (("shared started", 2, ""), ("shared run", 2, ""), ("shared outcome", 2, ""))),
    (CROWD, (("shared completed", 2, ""), ("shared ack", 2, ""))),
    (SLOW, (("renew", 1, "jobs.slow"),)),
    (LARGE, (("store", 1, ""),)),
    (TALKER, (("frame", 1, ""), ("progress", 1, ""), ("emit", 1, ""), ("frame", 2, ""))),
    (ONCE, (("retrying", 1, ""), ("nak", 1, ""), ("read", 1, "once"), ("started", 2, ""))),
    (NEVER, (("dlq", 1, ""), ("failed", 1, ""), ("ack", 1, ""))),
    (NONSENSE, (("dlq", 1, ""), ("failed", 1, ""), ("ack", 1, ""))),
    (HUGE, (("store", 1, ""), ("store", 2, ""), ("dlq", 2, ""))),
    (ORPHANED, (("probe", 1, ""),)),
    (TWICE, (("started", 2, ""), ("read", 1, "brief"), ("ack", 2, ""))),
    (CONFLICT, (("read", 1, "brief"), ("dlq", 1, ""), ("ack", 2, ""))),
    (MOVES, (("retrying", 2, ""), ("child", 1, "jobs.once"), ("ack", 1, ""))),
    (
        CANCEL,
        (("command", 1, ""), ("kind", 1, "patient"), ("read", 1, "patient"), ("cancelled", 1, ""), ("answer", 1, "")),
    ),
    (CANCEL, (("command ack", 1, ""), ("watch", 1, "patient"), ("stop", 1, ""), ("ack", 1, ""))),
    (REPLAY, (("command", 1, ""), ("letter", 1, ""), ("requeued", 1, ""), ("child", 1, ""), ("answer", 1, ""))),
    (REPLAY, (("command ack", 1, ""), ("started", 2, ""), ("completed", 1, ""), ("ack", 2, ""))),
    (DRAIN, (("command", 1, ""), ("answer", 1, ""), ("command ack", 1, ""))),
    (TERMINATE, (("stop", 1, ""), ("retrying", 1, ""), ("nak", 1, ""))),
    (PAIR, (("started", 1, "pair"), ("child", 1, ""), ("child", 2, ""), ("started", 1, "brief"))),
    (PAIR, (("completed", 1, "brief"), ("notice", 1, ""), ("ack", 1, "brief"), ("fold", 1, ""), ("notice", 2, ""))),
    (PAIR, (("fold", 2, ""), ("progress", 1, "pair"), ("child's end", 1, ""), ("completed", 1, "pair"))),
    (PAIR, (("ack", 1, "pair"),)),
    (STRANGE, (("child", 2, ""), ("cancelled", 1, ""), ("cancelled", 2, ""), ("dlq", 1, ""), ("failed", 1, ""))),
    (CANCEL_BATCH, (("progress", 1, "waiting"), ("answer", 1, ""), ("command ack", 1, ""), ("watch", 1, "waiting"))),
    (CANCEL_BATCH, (("cancelled", 1, "patient"), ("cancelled", 2, "patient"), ("notice", 1, ""))),
    (CANCEL_BATCH, (("cancelled", 1, "waiting"), ("ack", 1, "waiting"))),
    (REPLAY_BATCH, (("requeued", 1, "careful"), ("child", 1, "careful"), ("answer", 1, ""), ("command ack", 1, ""))),
    (REPLAY_BATCH, (("started", 2, "careful"), ("requeued", 1, "picky"), ("child", 3, "picky"))),
    (REPLAY_BATCH, (("requeued", 2, "picky"), ("child", 4, "picky"), ("started", 3, "picky"))),
    (REPLAY_BATCH, (("notice", 3, ""), ("fold", 3, ""), ("completed", 1, "careful"), ("ack", 2, "careful"))),
)


ON_RAY: Final = (
    (BRIEF, "started", "after", 1),
    (BRIEF, "run", "after", 1),
    (BRIEF, "completed", "before", 1),
    (CANCEL, "stop", "before", 1),
    (PAIR, "notice", "before", 1),
)
"""What of it is done again where jobs run on Ray, which takes a gateway seconds to start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One death."""

    scenario: Scenario
    step: str
    side: Side
    count: int
    subject: str

    def __str__(self) -> str:
        time = {1: "", 2: " the second time", 3: " the third time", 4: " the fourth time"}[self.count]
        where = f" ({self.subject})" if self.subject else ""
        return f"{self.scenario.name}: {self.side} {self.step}{time}{where}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What came of one."""

    point: Point
    broken: list[str]
    next_attempt_s: float | None
    """From the gateway's death to the next `started` of any of its jobs."""
    over_s: float
    """From the gateway's death until nothing was left to do."""

    def __str__(self) -> str:
        attempt = "-" if self.next_attempt_s is None else f"{self.next_attempt_s:.1f} s"
        verdict = "NOT RECOVERED" if self.broken else "recovered"
        return f"{self.point!s:60} {verdict:13} next attempt after {attempt:>6}, over after {self.over_s:.1f} s"


def points() -> Iterator[Point]:
    """All of them."""
    for scenario, steps in TABLE:
        for step, count, subject in steps:
            sides: tuple[Side, ...] = ("after",) if step in AFTER else ("before", "after")
            for side in sides:
                yield Point(scenario=scenario, step=step, side=side, count=count, subject=subject)


async def test_every_death_is_recovered_from(tmp_path: Path) -> None:
    await _all_recover(tmp_path, points(), lanes=LANES)


@pytest.mark.ray
async def test_deaths_beside_a_ray_are_recovered_from(tmp_path: Path) -> None:
    some = [point for point in points() if (point.scenario, point.step, point.side, point.count) in ON_RAY]
    assert len(some) == len(ON_RAY)
    await _all_recover(tmp_path, some, lanes=1, ray="local")


async def _all_recover(folder: Path, chosen: Iterable[Point], *, lanes: int, ray: str = "none") -> None:
    waiting = list(enumerate(chosen))
    total = len(waiting)
    waiting.reverse()
    recovered: list[Recovery] = []
    async with asyncio.TaskGroup() as group:
        for number in range(lanes):
            group.create_task(_work_through(_furnished(folder / f"lane-{number}"), ray, waiting, recovered))
    _print_figures(recovered)
    assert len(recovered) == total
    assert [f"{each.point}: {each.broken}" for each in recovered if each.broken] == []


def _furnished(folder: Path) -> Path:
    folder.mkdir()
    (folder / "some_kinds.py").write_text(KINDS)
    (folder / "jetray.toml").write_text(SETTINGS)
    return folder


async def _work_through(folder: Path, ray: str, waiting: list[tuple[int, Point]], recovered: list[Recovery]) -> None:
    async with nats_server(folder / "nats") as server, connect(server.url, name="test") as bus:
        lane = Lane(server.url, bus, folder, ray=ray)
        try:
            while waiting:
                number, point = waiting.pop()
                recovered.append(await _die_and_recover(lane, point, f"P{number}"))
                print(recovered[-1], flush=True)
        finally:
            await lane.stop()


async def _die_and_recover(lane: Lane, point: Point, job_id: str) -> Recovery:
    scenario = point.scenario
    driving: asyncio.Task[Expected] | None = None
    for failpoint in (*scenario.first, (point.step, point.side, str(point.count), point.subject)):
        doomed = await lane.start(failpoint, scenario.environment)
        driving = driving or asyncio.create_task(_driven(scenario, lane, job_id))
        status = await _death(doomed)
    assert driving is not None
    died = datetime.now(UTC)
    broken = [] if status == -signal.SIGKILL else [f"never came by it, and ended with {status}", lane.last_words()]
    successor = await lane.start((), scenario.environment)
    try:
        expected = await driving
        await lane.settled(expected)
        over = datetime.now(UTC)
        broken += await lane.judged(expected, job_id)
    except TimeoutError:
        over, expected = datetime.now(UTC), Expected(ends={})
        broken.append("not over after a minute")
    if successor.returncode is None:
        successor.kill()
    await successor.wait()
    return Recovery(
        point=point,
        broken=broken,
        next_attempt_s=await _next_attempt(lane, expected, died),
        over_s=(over - died).total_seconds(),
    )


async def _death(doomed: asyncio.subprocess.Process) -> int:
    """How it ended; by SIGTERM where it did not by itself."""
    try:
        async with asyncio.timeout(COMES_BY_S):
            return await doomed.wait()
    except TimeoutError:
        doomed.terminate()
        return await doomed.wait()


async def _driven(scenario: Scenario, lane: Lane, job_id: str) -> Expected:
    return await scenario.drive(lane, job_id)


async def _next_attempt(lane: Lane, expected: Expected, died: datetime) -> float | None:
    """Of the jobs that had begun when it died, and began again, the slowest's delay."""
    delays = []
    for key, log in (await logs(lane.bus)).items():
        begun = [event.time for event in log if isinstance(event, Started)]
        later = [time for time in begun if time > died]
        if key in expected.ends and later and len(later) < len(begun):
            delays.append((min(later) - died).total_seconds())
    return max(delays, default=None)


def _print_figures(recovered: list[Recovery]) -> None:
    late = sorted(
        each.next_attempt_s - _lease_s(each.point.scenario) for each in recovered if each.next_attempt_s is not None
    )
    print(
        f"{sum(not each.broken for each in recovered)} of {len(recovered)} recovered; the next attempt began "
        f"{late[len(late) // 2]:+.1f} s from the end of the lease in the middle, {late[-1]:+.1f} s at most"
    )


def _lease_s(scenario: Scenario) -> float:
    return float(scenario.environment.get(ACK_WAIT, ACK_WAIT_S))
