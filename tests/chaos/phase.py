"""One world from its start to its verdict."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from msgspec import Struct

from contracts import subjects
from contracts.events import Failed
from infra.bus.base import BusError
from infra.bus.nats import NatsBus, connect
from tests.chaos.disk import Disk, NoDisk
from tests.chaos.evidence import gather
from tests.chaos.faults import KillGateway, KillLeader, KillServer, Struck, faults_for
from tests.chaos.judge import judge
from tests.chaos.kinds import read_ledger
from tests.chaos.load import Load, plan
from tests.chaos.overlaps import Overlap, overlaps
from tests.chaos.storm import Storm
from tests.chaos.watcher import Recoveries, Watcher
from tests.chaos.world import PROFILES, RayPlace, World, world

__all__ = ["Outcome", "Phase", "ready", "run"]

READY_S: Final = 240.0
QUIET_S: Final = 240.0
"""What the last jobs get to end, once the last fault is healed."""
DISK_MB: Final = 1024
TELL_S: Final = 10.0

Say = Callable[[str], None]


class Phase(Struct, frozen=True, kw_only=True):
    """What one world is to live through."""

    name: str
    servers: int
    places: tuple[RayPlace, ...]
    seconds: float
    """For which faults strike."""
    jobs: int
    seed: int
    between_s: tuple[float, float]
    """Least and most seconds from one fault to the next."""
    small_disk: bool = False


class Outcome(Struct, kw_only=True):
    """What came of it."""

    phase: Phase
    struck: list[Struck]
    without: dict[str, str]
    """Faults that could not strike here, and why."""
    accepted: int
    published_again: int
    duplicates: int
    logs: int
    events: int
    executions: int
    commands: int
    ends: dict[str, int]
    restarts: dict[str, int]
    recoveries: Recoveries
    overlaps: list[Overlap]
    """Attempts whose user code ran on beside the next one's."""
    violations: list[str]
    seconds: float
    quiet_after_s: float | None
    """From the last healing to the last end; None where it never came."""
    nats_server: str


async def run(phase: Phase, folder: Path, say: Say) -> Outcome:
    """Live through it. Raises only where something other than Jetray is broken."""
    began = time.monotonic()
    disk, no_disk = _disk(folder, phase)
    try:
        async with world(folder, servers=phase.servers, places=phase.places, disk=disk) as made:
            outcome = await _lived_through(phase, made, say)
    finally:
        if disk is not None:
            disk.unmount()
    if no_disk is not None:
        outcome.without["disk full"] = no_disk
    outcome.seconds = time.monotonic() - began
    return outcome


async def _lived_through(phase: Phase, made: World, say: Say) -> Outcome:
    dice = random.Random(f"{phase.seed} {phase.name}")
    async with connect(made.url, name="chaos load") as sending, connect(made.url, name="chaos watch") as seeing:
        load = Load(sending)
        async with asyncio.TaskGroup() as tasks:
            watcher = Watcher(seeing, _replaying(load, tasks))
            watching = tasks.create_task(watcher.watch())
            await ready(made, watcher)
            say(f"{phase.name}: {len(made.gateways)} gateways serve; {phase.jobs} jobs in {phase.seconds:.0f} s")
            faults, without = faults_for(made)
            storm = Storm(made, faults, dice, lambda struck: _note(struck, made, watcher), between_s=phase.between_s)
            async with _told(phase, load, watcher, storm, say):
                await _under_storm(phase, load, storm, dice)
                quiet_after = await _quiet(load, watcher, sending)
            watching.cancel()
        evidence = await gather(seeing, accepted=load.accepted, commands=load.commands, folder=made.folder)
        evidence.ledger = read_ledger(made.ledger)
        evidence.seen_live = watcher.sequences if quiet_after is not None else None
        broken = judge(evidence)
        if quiet_after is None:
            broken.append(f"not quiet {QUIET_S:.0f} s after the last fault")
        return Outcome(
            phase=phase,
            struck=storm.struck,
            without=without,
            accepted=len(load.accepted),
            published_again=load.again,
            duplicates=load.duplicates,
            logs=len(evidence.logs),
            events=sum(map(len, evidence.logs.values())),
            executions=sum(entry.what == "began" for entry in evidence.ledger),
            commands=len(load.commands),
            ends=dict(sorted(watcher.ends.items())),
            restarts={gateway.name: len(gateway.process.lives) - 1 for gateway in made.gateways},
            recoveries=watcher.recoveries,
            overlaps=overlaps(evidence, storm.struck),
            violations=broken,
            seconds=0.0,
            quiet_after_s=quiet_after,
            nats_server=seeing.server_version,
        )


async def ready(made: World, watcher: Watcher) -> None:
    """Return once every gateway serves and has its actors."""
    names = {gateway.name for gateway in made.gateways}
    async with asyncio.timeout(READY_S):
        await watcher.until(
            lambda: names <= {*watcher.serving} and all(watcher.pools[name] >= PROFILES for name in names)
        )


def _replaying(load: Load, tasks: asyncio.TaskGroup) -> Callable[[Failed], None]:
    def on_failed(failed: Failed) -> None:
        if failed.kind == "doomed" and failed.run == 1:
            tasks.create_task(load.command(subjects.replay(failed.dlq_sequence)))

    return on_failed


def _note(struck: Struck, made: World, watcher: Watcher) -> None:
    if struck.skipped:
        return
    if struck.fault == KillGateway.name:
        watcher.gateway_died(struck.target, struck.began)
    elif struck.fault == "actor killed":
        watcher.actor_died(struck.began)
    elif struck.fault in (KillServer.name, KillLeader.name) and len(made.servers) == 1:
        watcher.server_ready(made.servers[0].ready)


async def _under_storm(phase: Phase, load: Load, storm: Storm, dice: random.Random) -> None:
    jobs = plan(phase.jobs, f"{phase.name}-", dice)
    until = asyncio.get_running_loop().time() + phase.seconds
    async with asyncio.TaskGroup() as both:
        both.create_task(storm.rage(until))
        both.create_task(load.publish_all(jobs, 0.95 * phase.seconds))


async def _quiet(load: Load, watcher: Watcher, bus: NatsBus) -> float | None:
    """Seconds until everything has ended; None where that does not come."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(QUIET_S):
            await watcher.until(lambda: load.accepted.keys() <= watcher.ended)
            while not await _is_empty(bus):  # noqa: ASYNC110  the server tells nobody
                await asyncio.sleep(0.5)
    except TimeoutError:
        return None
    return time.monotonic() - began


async def _is_empty(bus: NatsBus) -> bool:
    try:
        infos = [await bus.api(f"STREAM.INFO.{stream}", None) for stream in (subjects.JOBS, subjects.CONTROL)]
    except BusError:
        return False
    return all(info["state"]["messages"] == 0 for info in infos)


@asynccontextmanager
async def _told(phase: Phase, load: Load, watcher: Watcher, storm: Storm, say: Say) -> AsyncIterator[None]:
    """A line every ten seconds."""
    began = time.monotonic()

    async def tell() -> None:
        while True:
            await asyncio.sleep(TELL_S)
            ended = len(load.accepted.keys() & watcher.ended)
            last = storm.struck[-1] if storm.struck else None
            about = "" if last is None else f", last {last.fault} {last.target}".rstrip()
            say(
                f"{phase.name} {time.monotonic() - began:5.0f} s: {len(load.accepted)}/{phase.jobs} accepted, "
                f"{ended} ended, {len(load.accepted) - ended} open; {len(storm.struck)} faults{about}"
            )

    telling = asyncio.create_task(tell())
    try:
        yield
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)


def _disk(folder: Path, phase: Phase) -> tuple[Disk | None, str | None]:
    if not phase.small_disk:
        return None, None
    try:
        return Disk(folder / "disk", DISK_MB), None
    except NoDisk as error:
        return None, f"no small disk can be mounted here ({error})"
