"""A gateway on a cluster of three servers, of which one dies."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from pathlib import Path

import pytest

from contracts import subjects
from contracts.events import Completed
from infra.bus.nats import NatsBus, connect
from tests.checker import logs, read_all, violations
from tests.cluster import Cluster
from tests.integration.stack import Stack

pytestmark = [pytest.mark.asyncio, pytest.mark.server, pytest.mark.slow, pytest.mark.proof, pytest.mark.timeout(240)]

JOBS = 50

KINDS = """
import time

import msgspec

from workers import JobContext, job


class Task(msgspec.Struct):
    id: str


@job("brief", id_field="id")
def brief(ctx: JobContext, task: Task) -> str:
    ctx.progress(message="working")
    time.sleep(0.2)
    return task.id
"""

SETTINGS = """
[kinds]
modules = ["some_kinds"]
[gateway]
ack_wait_s = 6
[streams]
replicas = 3
"""


@pytest.mark.parametrize("victim", ["leads JOBS", "leads EVENTS", "has the gateway"])
async def test_fifty_jobs_outlive_one_of_three_servers(cluster: Cluster, tmp_path: Path, victim: str) -> None:
    (tmp_path / "some_kinds.py").write_text(KINDS)
    (tmp_path / "jetray.toml").write_text(SETTINGS)
    async with connect(cluster.url, name="test") as bus:
        # A gateway that is told of one server alone hears of the others from it.
        running = Stack(cluster.url_of(cluster.names[0]), bus, tmp_path)
        try:
            await running.gateway()
            ids = [f"{victim.replace(' ', '-')}-{number}" for number in range(JOBS)]
            for job_id in ids:
                await running.publish("jobs.brief", f'{{"id":"{job_id}"}}', {"Nats-Msg-Id": f"brief.{job_id}.1"})
            await running.seen("brief", ids[JOBS // 5], "completed")
            dead = await _name(cluster, bus, victim)
            cluster.kill(dead)
            killed = datetime.now(UTC)
            for job_id in ids:
                assert isinstance(await running.end("brief", job_id, within_s=120), Completed)
            cluster.start(dead)
            await cluster.whole()
            ends = [message.time for message in await read_all(bus, subjects.EVENTS, "orchestration.brief.completed.*")]
            gap = max(later - earlier for earlier, later in itertools.pairwise(sorted([killed, *ends])))
            print(f"\n{dead}, which {victim}, was killed: at most {gap.total_seconds():.1f} s without an end")
            found = {key: log for key, log in (await logs(bus)).items() if key[1] in ids}
            assert violations(found, expected=[("brief", job_id) for job_id in ids]) == []
            attempts = [log[-1].attempt for log in found.values()]
            print(f"attempts: {sum(attempts)} of {JOBS} jobs")
            assert (await bus.api("STREAM.INFO.JOBS", None))["state"]["messages"] == 0
        finally:
            await running.stop()


async def _name(cluster: Cluster, bus: NatsBus, victim: str) -> str:
    match victim:
        case "leads JOBS":
            return await cluster.leader(bus, "JOBS")
        case "leads EVENTS":
            return await cluster.leader(bus, "EVENTS")
        case _:
            return cluster.names[0]
