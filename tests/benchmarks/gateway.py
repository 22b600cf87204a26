"""Jetray as it is deployed: `jetray worker` as a process, its topology applied before, its kinds as lanes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import msgspec

from contracts import headers as h
from contracts.subjects import EVENTS, JOBS
from contracts.subjects import job as job_subject
from tests.benchmarks.jobs import Job
from tests.benchmarks.kinds import Text
from tests.benchmarks.lane import Lane
from tests.benchmarks.publisher import Message
from tests.benchmarks.stage import Process, Stage, running
from tests.benchmarks.verify import LIFECYCLE, lifecycle
from workers.kinds import registry
from workers.runtime.topology import topology
from workers.settings import load

__all__ = ["gateway", "kind_lane", "prepare"]

SETTINGS: Final = """\
[gateway]
grace_s = 2

[streams]
jobs_per_kind = {jobs_per_kind}
events_max_bytes = 4294967296
dlq_max_bytes = 268435456

[kinds]
modules = ["tests.benchmarks.kinds"]

[profiles.default]
actors = {actors}
cpus = 0.5
concurrency = {concurrency}
"""


def kind_lane(kind: str) -> Lane:
    """A kind's queue, and the job logs that come of it; jobs are published as users are told to, with an id."""
    return Lane(
        name=f"jetray, kind {kind}",
        stream=JOBS,
        consumer=kind,
        results=EVENTS,
        per_job=len(LIFECYCLE),
        message=partial(_message, job_subject(kind)),
        judge=partial(lifecycle, kind),
    )


def _message(subject: str, job: Job) -> Message:
    return Message(subject, msgspec.json.encode(Text(job.text)), {h.MSG_ID: job.id})


async def prepare(
    stage: Stage, *, actors: int = 2, concurrency: int = 8, jobs_per_kind: int = 2_000_000
) -> Mapping[str, str]:
    """Write the settings and create the streams, as `jetray apply` does; the environment of a gateway."""
    file = stage.folder / "jetray.toml"
    file.write_text(
        SETTINGS.format(jobs_per_kind=jobs_per_kind, actors=actors, concurrency=concurrency), encoding="utf-8"
    )
    settings = load(file, {})
    await stage.bus.apply(topology(settings, registry.load(settings.kinds.modules)))
    return {"NATS_URL": stage.url, "RAY_ADDRESS": "local"}


@asynccontextmanager
async def gateway(stage: Stage, environment: Mapping[str, str], name: str = "bench-1") -> AsyncIterator[Process]:
    """A gateway; it serves a little later."""
    command = ["-m", "workers", "worker", "--config", str(stage.folder / "jetray.toml")]
    async with running(name, command, stage.folder, {**environment, "JETRAY_GATEWAY_NAME": name}) as process:
        yield process
