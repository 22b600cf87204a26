"""Ray's own processes die: the gateway ends with a word, its supervisor starts another, and jobs end once."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from contracts.events import Completed
from infra.bus.nats import connect
from tests.checker import logs, violations
from tests.integration.outage import KINDS
from tests.integration.stack import Stack
from tests.launcher.processes import child, descendants, gone, started

pytestmark = [pytest.mark.asyncio, pytest.mark.server, pytest.mark.ray, pytest.mark.slow]


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
