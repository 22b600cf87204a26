"""Commands on real parts: cancel, replay, drain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from contracts import subjects
from contracts.events import Cancelled, Completed, Failed
from tests.checker import logs, violations
from tests.integration.stack import Stack, stack

pytestmark = [pytest.mark.asyncio, pytest.mark.server]

KINDS = '''
import os
from pathlib import Path

import anyio
import msgspec

from workers import Fail, JobContext, job


class Task(msgspec.Struct):
    id: str


@job("patient", id_field="id")
async def patient(ctx: JobContext, task: Task) -> str:
    """Never ends by itself."""
    ctx.progress(message="waiting")
    await anyio.sleep_forever()
    return "never"


@job("picky", id_field="id")
def picky(task: Task) -> str:
    """Fails until there is a file of its job's name."""
    return "done" if (Path(__file__).parent / task.id).exists() else Fail("not yet")
'''.replace('-> str:\n    """Fails', '-> str | Fail:\n    """Fails')

SETTINGS = """
[kinds]
modules = ["some_kinds"]
[gateway]
grace_s = 2
"""


@pytest_asyncio.fixture
async def jetray(tmp_path: Path) -> AsyncIterator[Stack]:
    (tmp_path / "some_kinds.py").write_text(KINDS)
    (tmp_path / "jetray.toml").write_text(SETTINGS)
    async with stack(tmp_path) as running:
        yield running


async def answer(jetray: Stack, command: int) -> dict[str, object]:
    """What `workers.control.*` said to a command."""
    async with asyncio.timeout(20):
        async with aclosing(jetray.bus.follow(subjects.WORKERS, "workers.control.*.*")) as said:
            async for message in said:
                told = msgspec.json.decode(message.body)
                if told["sequence"] == command:
                    return dict(told)
    raise AssertionError("a follower does not end by itself")


async def test_a_running_job_is_cancelled(jetray: Stack) -> None:
    await jetray.gateway()
    await jetray.publish("jobs.patient", '{"id":"J1"}')
    await jetray.seen("patient", "J1", "progress")
    command = await jetray.publish("control.cancel.patient.J1", '{"reason":"enough","requested_by":"somebody"}')
    end = await jetray.end("patient", "J1")
    assert isinstance(end, Cancelled)
    assert (end.reason, end.requested_by, end.stage) == ("enough", "somebody", "running")
    assert (await answer(jetray, command))["event"] == "control.done"
    again = await jetray.publish("control.cancel.patient.J1", "")
    assert (await answer(jetray, again))["detail"] == "it was cancelled already"
    # The slot is free again: the next job runs.
    await jetray.publish("jobs.patient", '{"id":"J2"}')
    await jetray.seen("patient", "J2", "started")
    assert violations({key: log for key, log in (await logs(jetray.bus)).items() if key[1] == "J1"}) == []


async def test_a_job_is_cancelled_before_it_is_published(jetray: Stack) -> None:
    await jetray.gateway()
    command = await jetray.publish("control.cancel.picky.J1", "")
    await answer(jetray, command)
    await jetray.publish("jobs.picky", '{"id":"J1"}')
    await jetray.publish("jobs.picky", '{"id":"J2"}')
    await jetray.end("picky", "J2")
    assert [type(event) for event in (await logs(jetray.bus))["picky", "J1"]] == [Cancelled]


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("control.cancel.unheard-of.J1", "registered"),
        ("control.replay.7", "holds no message 7"),
        ("control.replay.x", "none of"),
        ("control.cancel.picky", "none of"),
    ],
)
async def test_nonsense_is_refused_visibly(jetray: Stack, command: str, why: str) -> None:
    await jetray.gateway()
    told = await answer(jetray, await jetray.publish(command, ""))
    assert told["event"] == "control.refused"
    assert why in str(told["reason"])


async def test_a_failed_job_is_replayed(jetray: Stack, tmp_path: Path) -> None:
    await jetray.gateway()
    await jetray.publish("jobs.picky", '{"id":"J1"}', {"Nats-Msg-Id": "picky.J1.1"})
    first = await jetray.end("picky", "J1")
    assert isinstance(first, Failed)
    (tmp_path / "J1").touch()
    command = await jetray.publish(f"control.replay.{first.dlq_sequence}", "")
    assert (await answer(jetray, command))["event"] == "control.done"
    await jetray.seen("picky", "J1", "completed")
    found = await logs(jetray.bus)
    assert violations(found) == []
    end = found["picky", "J1"][-1]
    assert isinstance(end, Completed)
    assert end.run == 2
    again = await jetray.publish(f"control.replay.{first.dlq_sequence}", "")
    assert (await answer(jetray, again))["detail"] == "its replay has ended already"


async def test_drain_by_command_ends_the_gateway(jetray: Stack) -> None:
    process = await jetray.gateway("gw-1")
    command = await jetray.publish("control.drain.gw-1", "")
    assert (await answer(jetray, command))["event"] == "control.done"
    async with asyncio.timeout(20):
        assert await process.wait() == 0
