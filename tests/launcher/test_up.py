"""`jetray up`: a user's view of it, with jobs in a child process instead of Ray."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest

from infra.bus.nats import connect
from tests.launcher.processes import child, descendants, gone, started
from workers.launcher.exits import Misconfigured
from workers.launcher.up import held, own_port

NEEDS_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="children die with their parent on Linux alone")


@pytest.mark.parametrize(
    ("url", "given", "port"),
    [
        ("nats://127.0.0.1:4222", None, 4222),
        ("nats://localhost:4333", None, 4333),
        ("127.0.0.1", None, 4222),
        ("nats://user:pw@[::1]:4444", None, 4444),
        ("nats://127.0.0.1:4222", 0, 0),
        ("nats://elsewhere:4222", 4555, 4555),
    ],
)
def test_the_port_is_the_one_given_or_that_of_the_settings(url, given, port):
    assert own_port(url, given) == port


@pytest.mark.parametrize("url", ["nats://elsewhere:4222", "nats://127.0.0.1:4222,nats://127.0.0.1:4223", "10.0.0.1"])
def test_a_server_elsewhere_is_not_silently_passed_over(url):
    with pytest.raises(Misconfigured, match="run `jetray worker` to serve that one, or give --nats-port"):
        own_port(url, None)


def test_one_state_directory_has_one_user(tmp_path):
    with held(tmp_path / "state") as state:
        assert (state / ".gitignore").read_text() == "*\n"
        with pytest.raises(Misconfigured, match="another `jetray up` uses"), held(tmp_path / "state"):
            pass
    with held(tmp_path / "state"):
        pass


def test_a_state_directory_that_cannot_be_one_is_refused(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(Misconfigured, match="cannot be used: "), held(tmp_path / "file"):
        pass


def up(cwd, *arguments: str, **variables: str):
    return started("up", "--nats-port", "0", *arguments, cwd=cwd, **{"RAY_ADDRESS": "none", **variables})


async def url_of(running) -> str:
    return (await running.says("ready ")).removeprefix("ready ")


@pytest.mark.server
@pytest.mark.asyncio
async def test_it_prints_the_ready_line_alone_and_leaves_nothing_behind(tmp_path):
    async with up(tmp_path, "--state-dir", "state") as running:
        line = await running.says("")
        below = descendants(running.pid)
        assert line.startswith("ready nats://127.0.0.1:")
        assert {"nats", ".gitignore"} <= {path.name for path in (tmp_path / "state").iterdir()}

        assert await running.stop() == 0
        assert await running.rest("stdout") == ""
        assert "warning: council: provider `offline` is no language model" in await running.rest()
        await gone(below)


@pytest.mark.server
@pytest.mark.asyncio
async def test_it_does_not_warn_once_a_model_is_named(tmp_path):
    variables = {"JETRAY_COUNCIL_PROVIDER": "openai", "JETRAY_COUNCIL_MODEL": "m"}
    async with up(tmp_path, **variables) as running:
        await url_of(running)
        await running.stop()

        assert "warning" not in await running.rest()


@pytest.mark.server
@pytest.mark.asyncio
async def test_what_dies_comes_back_on_the_same_port_with_its_streams(tmp_path):
    async with up(tmp_path) as running:
        url = await url_of(running)

        os.kill(child(running.pid, "nats-server"), signal.SIGKILL)
        await running.says("nats-server was ended by SIGKILL; starting it again", on="stderr")
        await running.says("nats-server serves again", on="stderr")
        os.kill(child(running.pid, "workers worker"), signal.SIGKILL)
        await running.says("gateway was ended by SIGKILL; starting it again", on="stderr")
        await running.says("gateway serves again", on="stderr")

        async with connect(url, name="test", wait=False) as bus:
            assert await bus.owner("planning.plan.approved") == "PLANNING"
        assert await running.stop() == 0


@pytest.mark.server
@pytest.mark.asyncio
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_every_polite_signal_stops_it(number, tmp_path):
    async with up(tmp_path) as running:
        await url_of(running)
        below = descendants(running.pid)

        assert await running.stop(number) == 0
        await gone(below)


@pytest.mark.server
@pytest.mark.asyncio
async def test_a_signal_during_the_start_stops_it_too(tmp_path):
    async with up(tmp_path) as running:
        await running.says("applied:", on="stderr")

        assert await running.stop() == 0
        assert await running.rest("stdout") == ""


@pytest.mark.server
@pytest.mark.asyncio
@NEEDS_LINUX
async def test_killed_outright_it_leaves_nothing_behind(tmp_path):
    async with up(tmp_path) as running:
        await url_of(running)
        below = descendants(running.pid)
        assert len(below) >= 2

        await running.stop(signal.SIGKILL)
        await gone(below)


@pytest.mark.server
@pytest.mark.asyncio
async def test_a_second_signal_kills_what_dawdles(tmp_path):
    (tmp_path / "slow.py").write_text(
        "import signal, time\n"
        "from workers import job, JobContext\n"
        "@job('slow')\n"
        "def slow(ctx: JobContext, item: int) -> None:\n"
        "    ctx.progress(message='slowly')\n"
        "    time.sleep(600)\n"
    )
    async with up(tmp_path, JETRAY_KINDS_MODULES="slow", JETRAY_GATEWAY_GRACE_S="600") as running:
        url = await url_of(running)
        async with connect(url, name="test", wait=False) as bus:
            await bus.publish("jobs.slow", b"1")
            async for _ in bus.follow("EVENTS", "orchestration.slow.progress.*"):
                break
        below = descendants(running.pid)

        running.process.send_signal(signal.SIGTERM)
        await running.says("draining", on="stderr")
        assert await running.stop() == 0
        await gone(below)


@pytest.mark.server
@pytest.mark.asyncio
async def test_a_gateway_that_is_misconfigured_is_final(tmp_path):
    async with up(tmp_path, RAY_ADDRESS="ray://somewhere:10001") as running:
        below = asyncio.create_task(running.rest())

        assert await running.ended() == 78
        lines = (await below).splitlines()
        assert lines[0].startswith("jetray: RAY_ADDRESS=ray://somewhere:10001: ")
        assert lines[1:] == ["jetray: gateway says that its configuration is wrong"]


@pytest.mark.server
@pytest.mark.asyncio
async def test_a_port_that_is_taken_is_one_line_and_exit_status_78(tmp_path):
    async with up(tmp_path, "--state-dir", "one") as running:
        port = (await url_of(running)).rpartition(":")[2]
        async with started("up", "--nats-port", port, "--state-dir", "two", cwd=tmp_path) as second:
            assert await second.ended() == 78
            said = await second.rest()

        assert said.startswith("jetray: nats-server ended at once: ")
        assert "address already in use" in said
        assert len(said.splitlines()) == 1


def test_a_server_elsewhere_is_exit_status_78(jetray):
    refused = jetray("up", NATS_URL="nats://me:secret@elsewhere:4222")

    assert refused.returncode == 78
    assert refused.stderr.startswith(
        "jetray: the settings, or NATS_URL, name the server nats://***@elsewhere:4222, and"
    )
