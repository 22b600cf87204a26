"""`infra.pool.process`: what is its own beside the conformance suite."""

from __future__ import annotations

import logging
import subprocess
import sys

import anyio
import msgspec
import pytest

from contracts.calls import Returned
from infra.pool.base import HostSpec, Pool, PoolEvent, Profile
from infra.pool.process import ProcessPool
from infra.pool.provenance import ROOT
from tests.conformance.pool import hosts
from tests.conformance.pool.worlds import begin, call, finish, underway

pytestmark = pytest.mark.slow

SPEC = HostSpec(factory=hosts.FACTORY, config=b"")

DRIVER = """
import anyio
from tests.conformance.pool.worlds import begin, call, underway
from tests.infra.test_process_pool import served

async def main():
    async with served() as pool:
        execution = await begin(pool, call("{kind}", streams=True))
        print(await underway(execution), flush=True)
        await anyio.sleep_forever()

anyio.run(main)
"""


def served() -> ServedPool:
    return ServedPool()


class ServedPool:
    """A process pool of one profile, served as long as the block lasts."""

    async def __aenter__(self) -> Pool:
        self.events: list[PoolEvent] = []
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        pool = ProcessPool([Profile(name="default", actors=4, concurrency=9)], SPEC, gateway="gw-1")
        self._tasks.start_soon(pool.serve, self.events.append)
        return pool

    async def __aexit__(self, *error: object) -> None:
        self._tasks.cancel_scope.cancel()
        await self._tasks.__aexit__(None, None, None)


@pytest.mark.anyio
async def test_a_profile_has_one_slot_whatever_its_size() -> None:
    async with served() as pool:
        await pool.wait_free("default", exclusive=True)
        assert pool.slots("default", exclusive=False).total == pool.slots("default", exclusive=True).total == 1


@pytest.mark.anyio
async def test_a_child_finds_modules_where_the_gateway_does_and_an_untouched_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/some/where")
    monkeypatch.syspath_prepend("/else/where")
    async with served() as pool:
        outcome = await finish(pool, call("environment"))
    assert isinstance(outcome, Returned)
    told = msgspec.json.decode(outcome.result)
    assert told == {"path": sys.path, "python_path": "/some/where", "stdin": ""}


@pytest.mark.anyio
async def test_a_killed_job_takes_along_what_it_started() -> None:
    async with served() as pool:
        execution = await begin(pool, call("spawns", streams=True))
        started = await underway(execution)
        await execution.stop(0)
    # It has its SIGKILL; the kernel may still be taking it down.
    while state(started) not in ("", "Z"):  # noqa: ASYNC110 - it is no child of ours to wait for
        await anyio.sleep(0.01)


@pytest.mark.parametrize("kind", ["holds", "blocks", "spawns"])
def test_nothing_outlives_a_gateway_that_was_killed(kind: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER.format(kind=kind)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as gateway:
        assert gateway.stdout is not None
        assert gateway.stderr is not None
        pid = int(gateway.stdout.readline())
        assert state(pid) not in ("", "Z")
        gateway.kill()
        # They all have the gateway's standard error, so its end is theirs: this reads for as long as one of them lives.
        assert b"Traceback" not in gateway.stderr.read()


def test_a_runtime_env_without_ray_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    profiles = [Profile(name="plain", actors=1), Profile(name="pip", actors=1, runtime_env={"pip": ["numpy"]})]
    with caplog.at_level(logging.WARNING):
        ProcessPool(profiles, SPEC, gateway="gw-1")
    assert [record.getMessage() for record in caplog.records] == [
        "profile pip: without Ray its runtime_env has no effect"
    ]


def state(pid: int) -> str:
    """A process's state as `ps` tells it; empty where there is none, Z where nobody has asked yet how it ended."""
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return listed.stdout.strip()[:1]
