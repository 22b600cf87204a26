"""Workloads that come by each step of the job path, and what must have become of them in the end."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from contracts import subjects
from contracts.events import Failed
from infra.bus.base import BusError
from infra.bus.embedded import MAX_PAYLOAD
from infra.bus.nats import NatsBus
from tests.checker import logs, read_all, violations
from tests.integration.stack import WORKER, Stack

__all__ = ["Expected", "Lane", "Scenario"]

LOOK_AGAIN_S: Final = 0.05
PATIENCE_S: Final = 60.0
ROOT: Final = Path(__file__).resolve().parents[2]

Job = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What must have become of a workload."""

    ends: Mapping[Job, str]
    """Each job's last event."""
    letters: Mapping[Job, str] = field(default_factory=dict)
    """Job to the reason that its dead letter gives; each stands there once."""
    commands: Mapping[int, str] = field(default_factory=dict)
    """Sequence of a command to `done` or `refused`, or to both where either is right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Published by `drive`, which gets a lane and the job's id, and stays for what it has to do later."""

    name: str
    drive: Callable[[Lane, str], Awaitable[Expected]]
    environment: Mapping[str, str] = field(default_factory=dict)
    first: tuple[tuple[str, ...], ...] = ()
    """Failpoints of gateways that die of this workload before the one that is to die."""


class Lane(Stack):
    """A nats-server that one failpoint after the other has to itself."""

    def __init__(self, url: str, bus: NatsBus, folder: Path, *, ray: str = "none") -> None:
        super().__init__(url, bus, folder)
        self.folder = folder
        self._log_file = folder / "gateways.log"
        self.current: asyncio.subprocess.Process
        self._ray = ray

    async def start(self, failpoint: tuple[str, ...], environment: Mapping[str, str]) -> asyncio.subprocess.Process:
        """A gateway, with a failpoint if that is given; always under the same name, as a supervisor would start it."""
        command = ("-m", "tests.integration.failpoint", *failpoint) if failpoint else WORKER
        settings: dict[str, Any] = {**environment, "PYTHONPATH": str(ROOT)}
        self.current = await self.gateway(ray=self._ray, command=command, log=self._log_file, **settings)
        return self.current

    def last_words(self) -> str:
        """What the gateways of this lane said last."""
        return self._log_file.read_text(encoding="utf-8", errors="replace")[-4_000:]

    async def send(self, kind: str, job_id: str, value: int = 0) -> int:
        """Publish a job."""
        return await self.publish(f"jobs.{kind}", msgspec.json.encode({"id": job_id, "value": value}))

    async def settled(self, expected: Expected) -> None:
        """Return once every job has its end, every command its answer, and nothing is left in JOBS and CONTROL."""
        for (kind, job_id), name in expected.ends.items():
            await self.seen(kind, job_id, name)
        async with asyncio.timeout(PATIENCE_S):
            while not await self._nothing_left():  # noqa: ASYNC110  a queue announces to nobody that it is empty
                await asyncio.sleep(LOOK_AGAIN_S)

    async def judged(self, expected: Expected, mark: str) -> list[str]:
        """What is not as it was promised, of the jobs with `mark` in their ids."""
        found = {key: log for key, log in (await logs(self.bus)).items() if key in expected.ends or mark in key[1]}
        broken = violations(found, expected=expected.ends)
        for key, name in expected.ends.items():
            last = type(found[key][-1]).__name__.lower() if key in found else "nothing"
            broken += [f"{key} ended as {last}, not as {name}"] if last != name else []
        broken += [f"{key} has a log, and nobody asked for it" for key in found.keys() - expected.ends.keys()]
        return broken + await self._letters(expected, mark) + await self._answers(expected)

    async def _letters(self, expected: Expected, mark: str) -> list[str]:
        found: Counter[tuple[Job, str]] = Counter()
        for message in await read_all(self.bus, subjects.DLQ, "dlq.*.*"):
            _, kind, job_id = message.subject.split(".")
            if (kind, job_id) in expected.letters or mark in job_id:
                found[(kind, job_id), message.headers["Jetray-Reason"]] += 1
        wanted = Counter(expected.letters.items())
        return [] if found == wanted else [f"DLQ has {dict(found)}, wanted {dict(wanted)}"]

    async def _answers(self, expected: Expected) -> list[str]:
        said: dict[int, list[str]] = {sequence: [] for sequence in expected.commands}
        for message in await read_all(self.bus, subjects.WORKERS, "workers.control.*.*"):
            told = msgspec.json.decode(message.body)
            if told["sequence"] in said:
                said[told["sequence"]].append(message.subject.split(".")[2])
        wrong = [
            sequence
            for sequence, wanted in expected.commands.items()
            if len(said[sequence]) != 1 or said[sequence][0] not in wanted
        ]
        return [f"command {sequence} was answered {said[sequence]}" for sequence in wrong]

    async def _nothing_left(self) -> bool:
        try:
            infos: list[dict[str, Any]] = [
                await self.bus.api(f"STREAM.INFO.{stream}", None) for stream in (subjects.JOBS, subjects.CONTROL)
            ]
        except BusError:
            return False
        return all(info["state"]["messages"] == 0 for info in infos)


# One job


def one(kind: str, end: str, letter: str | None = None, value: int = 0) -> Callable[[Lane, str], Awaitable[Expected]]:
    """One job of a kind."""

    async def drive(lane: Lane, job_id: str) -> Expected:
        await lane.send(kind, job_id, value)
        return Expected(ends={(kind, job_id): end}, letters={(kind, job_id): letter} if letter else {})

    return drive


async def crowd(lane: Lane, job_id: str) -> Expected:
    """So many jobs at once that some share a call."""
    job_ids = [f"{job_id}-{number}" for number in range(60)]
    await asyncio.gather(*(lane.send("brief", each) for each in job_ids))
    return Expected(ends={("brief", each): "completed" for each in job_ids})


async def nonsense(lane: Lane, job_id: str) -> Expected:
    """What does not decode."""
    sequence = await lane.publish("jobs.brief", "nonsense")
    key = ("brief", f"JOBS-{sequence}")
    return Expected(ends={key: "failed"}, letters={key: "decode"})


async def huge(lane: Lane, job_id: str) -> Expected:
    """What is too large, and with the headers of a dead letter too large for a message."""
    sequence = await lane.publish("jobs.brief", b"x" * (MAX_PAYLOAD - 100))
    key = ("brief", f"JOBS-{sequence}")
    return Expected(ends={key: "failed"}, letters={key: "too_large"})


async def orphaned(lane: Lane, job_id: str) -> Expected:
    """Two messages of one job, of which the first is leased to a gateway that died while it ran."""
    doomed = lane.current
    await lane.send("brief", job_id)
    await doomed.wait()
    # Before, it would have taken this one too.
    await lane.send("brief", job_id)
    return Expected(ends={("brief", job_id): "completed"})


async def twice(lane: Lane, job_id: str) -> Expected:
    """The same job again, once the first has ended."""
    await lane.send("brief", job_id)
    await lane.end("brief", job_id)
    await lane.send("brief", job_id)
    return Expected(ends={("brief", job_id): "completed"})


async def conflict(lane: Lane, job_id: str) -> Expected:
    """Another input under an id that is taken."""
    await lane.send("brief", job_id)
    await lane.end("brief", job_id)
    await lane.send("brief", job_id, value=7)
    return Expected(ends={("brief", job_id): "completed"}, letters={("brief", job_id): "id_conflict"})


async def moves(lane: Lane, job_id: str) -> Expected:
    """Two that wait for their next attempt, of which one finds no room to wait in."""
    first, second = f"{job_id}-1", f"{job_id}-2"
    await lane.send("once", first, value=3)
    await lane.seen("once", first, "retrying")
    await lane.send("once", second, value=1)
    return Expected(ends={("once", first): "completed", ("once", second): "completed"})


# Commands


async def cancel(lane: Lane, job_id: str) -> Expected:
    """A running job is cancelled."""
    await lane.send("patient", job_id)
    await lane.seen("patient", job_id, "started")
    command = await lane.publish(f"control.cancel.patient.{job_id}", "")
    return Expected(ends={("patient", job_id): "cancelled"}, commands={command: "done"})


async def replay(lane: Lane, job_id: str) -> Expected:
    """A failed job is replayed, and now succeeds."""
    await lane.send("picky", job_id)
    failed = await lane.end("picky", job_id)
    assert isinstance(failed, Failed)
    (lane.folder / f"good-{job_id}").touch()
    command = await lane.publish(f"control.replay.{failed.dlq_sequence}", "")
    key = ("picky", job_id)
    return Expected(ends={key: "completed"}, letters={key: "user"}, commands={command: "done"})


async def drain(lane: Lane, job_id: str) -> Expected:
    """The gateway is drained by a command; its successor refuses one that is older than itself."""
    return Expected(ends={}, commands={await lane.publish("control.drain.gw-1", ""): "done or refused"})


async def terminate(lane: Lane, job_id: str) -> Expected:
    """SIGTERM while a job runs that outlasts the grace."""
    victim = lane.current
    await lane.send("slow", job_id)
    await lane.seen("slow", job_id, "started")
    victim.send_signal(signal.SIGTERM)
    return Expected(ends={("slow", job_id): "completed"})


# Batches


def _children(job_id: str, kind: str, end: str) -> dict[Job, str]:
    return {(kind, f"{job_id}-{key}"): end for key in ("a", "b")}


async def pair(lane: Lane, job_id: str) -> Expected:
    """A batch of two."""
    await lane.send("pair", job_id)
    return Expected(ends={("pair", job_id): "completed", **_children(job_id, "brief", "completed")})


async def strange(lane: Lane, job_id: str) -> Expected:
    """A batch one of whose children nobody can run: it ends the other one, and itself."""
    await lane.send("strange", job_id)
    ends = {
        ("strange", job_id): "failed",
        ("patient", f"{job_id}-known"): "cancelled",
        ("unheard-of", f"{job_id}-unknown"): "cancelled",
    }
    return Expected(ends=ends, letters={("strange", job_id): "unknown_kind"})


async def cancel_batch(lane: Lane, job_id: str) -> Expected:
    """A batch under way is cancelled."""
    await lane.send("waiting", job_id)
    await lane.seen("patient", f"{job_id}-a", "started")
    command = await lane.publish(f"control.cancel.waiting.{job_id}", "")
    ends = {("waiting", job_id): "cancelled", **_children(job_id, "patient", "cancelled")}
    return Expected(ends=ends, commands={command: "done"})


async def replay_batch(lane: Lane, job_id: str) -> Expected:
    """A batch failed with its children, and is replayed with them."""
    await lane.send("careful", job_id)
    failed = await lane.end("careful", job_id)
    assert isinstance(failed, Failed)
    (lane.folder / f"good-{job_id}").touch()
    command = await lane.publish(f"control.replay.{failed.dlq_sequence}", "")
    key = ("careful", job_id)
    return Expected(
        ends={key: "completed", **_children(job_id, "picky", "completed")},
        letters={key: "user", **_children(job_id, "picky", "user")},
        commands={command: "done"},
    )
