"""Ray's own processes die: the gateway ends with a word, its supervisor starts another, and jobs end once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.events import Completed, Retrying
from infra.bus.nats import connect
from tests.checker import logs, violations
from tests.integration.outage import KINDS, SETTINGS, stack_on, until
from tests.integration.ray_nodes import ENVIRONMENT, Nodes
from tests.integration.stack import Stack
from tests.launcher.processes import child, descendants, gone, started

pytestmark = [pytest.mark.asyncio, pytest.mark.server, pytest.mark.ray, pytest.mark.slow, pytest.mark.proof]


@pytest.mark.parametrize("name", ["raylet/raylet", "gcs/gcs_server"])
async def test_an_embedded_ray_that_dies_takes_the_gateway_along_and_the_next_one_goes_on(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "some_kinds.py").write_text(KINDS)
    variables = {"JETRAY_KINDS_MODULES": "some_kinds", "JETRAY_GATEWAY_ACK_WAIT_S": "6", "RAY_ADDRESS": "local"}
    async with started("up", "--nats-port", "0", cwd=tmp_path, **variables) as up:
        url = (await up.says("ready ")).removeprefix("ready ")
        async with connect(url, name="test") as bus:
            jetray = Stack(url, bus, tmp_path)
            await jetray.publish("jobs.patient", '{"id":"J1"}')
            await jetray.seen("patient", "J1", "progress", within_s=120)
            gateway = child(up.pid, "workers worker")
            below = descendants(gateway) | {gateway}
            os.kill(child(gateway, name), signal.SIGKILL)
            process = name.rpartition("/")[2]
            await up.says(f"Ray's {process} was ended by SIGKILL: this gateway ends", on="stderr")
            await up.says("gateway ended with exit status 1; starting it again", on="stderr")
            await up.says("gateway serves again", on="stderr")
            await gone(below)
            await jetray.publish("jobs.echo", '{"id":"J2"}')
            (tmp_path / "J1").touch()
            for kind, job_id in (("patient", "J1"), ("echo", "J2")):
                assert isinstance(await jetray.end(kind, job_id, within_s=120), Completed)
            found = await logs(bus)
            assert violations(found) == []
            assert found["patient", "J1"][-1].attempt == 2
        async with asyncio.timeout(60):
            assert await up.stop() == 0


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    """A cluster to be killed."""
    cluster = Nodes(tmp_path)
    try:
        yield cluster
    finally:
        cluster.close()


ONE_ACTOR = SETTINGS + "[profiles.default]\nactors = 1\n"


async def test_a_node_that_dies_takes_an_attempt_along_and_another_node_has_the_next(
    tmp_path: Path, nodes: Nodes
) -> None:
    nodes.head()
    nodes.node("one", cpus=1)
    async with stack_on(tmp_path) as (jetray, _, _):
        (tmp_path / "jetray.toml").write_text(ONE_ACTOR)
        gateway = await jetray.gateway(ray=nodes.address, log=tmp_path / "log", **ENVIRONMENT)
        await jetray.publish("jobs.patient", '{"id":"J1"}')
        await jetray.seen("patient", "J1", "progress", within_s=120)
        nodes.node("two", cpus=1)
        nodes.kill("one")
        lost = await jetray.seen("patient", "J1", "retrying", within_s=120)
        assert isinstance(lost, Retrying)
        assert (lost.error.reason, lost.spent.lost) == ("lost", 1)
        (tmp_path / "J1").touch()
        assert isinstance(await jetray.end("patient", "J1", within_s=120), Completed)
        assert gateway.returncode is None
        assert violations(await logs(jetray.bus)) == []


async def test_a_head_that_dies_ends_the_gateway_with_a_word_and_the_next_one_waits_for_it(
    tmp_path: Path, nodes: Nodes
) -> None:
    nodes.head()
    nodes.node("one", cpus=1)
    async with stack_on(tmp_path) as (jetray, _, _):
        (tmp_path / "jetray.toml").write_text(ONE_ACTOR)
        log = tmp_path / "log"
        gateway = await jetray.gateway(ray=nodes.address, log=log, **ENVIRONMENT)
        await jetray.publish("jobs.patient", '{"id":"J1"}')
        await jetray.seen("patient", "J1", "progress", within_s=120)
        below = descendants(gateway.pid)
        nodes.kill("head")
        await until(log, f"the Ray head at {nodes.address} cannot be reached")
        async with asyncio.timeout(120):
            assert await gateway.wait() not in (0, 78)
        await gone(below)
        nodes.kill("one")
        again = await jetray.gateway("gw-2", ray=nodes.address, log=log, **ENVIRONMENT)
        (tmp_path / "J1").touch()
        nodes.head()
        nodes.node("one", cpus=1)
        end = await jetray.end("patient", "J1", within_s=120)
        assert isinstance(end, Completed)
        assert (end.gateway, end.attempt) == ("gw-2", 2)
        assert again.returncode is None
        assert violations(await logs(jetray.bus)) == []
