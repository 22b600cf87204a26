"""Batches on real parts: cancelled while they run, and run again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from contracts.events import Cancelled, Completed, Failed, event_name
from tests.checker import logs, violations
from tests.integration.stack import Stack, stack

pytestmark = [pytest.mark.asyncio, pytest.mark.server]

KINDS = '''
from pathlib import Path

import anyio
import msgspec

from workers import Child, Fail, JobContext, batch, job


class Task(msgspec.Struct):
    id: str


class Group(msgspec.Struct):
    id: str
    members: list[str]


@job("waiter", id_field="id")
async def waiter(ctx: JobContext, task: Task) -> str:
    """Ends once there is a file of its job's name."""
    while not await anyio.Path(__file__).with_name(task.id).exists():
        await anyio.sleep(0.02)
    return task.id


@job("picky", id_field="id")
def picky(task: Task) -> str | Fail:
    """Fails until there is a file of its job's name."""
    return task.id if (Path(__file__).parent / task.id).exists() else Fail("not yet")


@batch("group", id_field="id")
class Grouping:
    def expand(self, group: Group) -> list[Child]:
        kinds = (member.partition(":") for member in group.members)
        return [Child(key=key, kind=kind, input=Task(id=f"{group.id}-{key}")) for kind, _, key in kinds]

    def reduce(self, group: Group, ends: list[object]) -> list[str] | Fail:
        outcomes = [end.outcome for end in ends]
        return outcomes if set(outcomes) == {"completed"} else Fail("not all")
'''

SETTINGS = """
[kinds]
modules = ["some_kinds"]
[gateway]
grace_s = 2
ack_wait_s = 2
"""


@pytest_asyncio.fixture
async def jetray(tmp_path: Path) -> AsyncIterator[Stack]:
    (tmp_path / "some_kinds.py").write_text(KINDS)
    (tmp_path / "jetray.toml").write_text(SETTINGS)
    async with stack(tmp_path) as running:
        yield running


def group(*members: str) -> bytes:
    return msgspec.json.encode({"id": "G", "members": members})


async def test_a_batch_is_cancelled_with_its_children(jetray: Stack, tmp_path: Path) -> None:
    await jetray.gateway()
    (tmp_path / "G-done").touch()
    await jetray.publish("jobs.group", group("waiter:done", "waiter:running", "waiter:queued", "picky:failed"))
    await jetray.end("picky", "G-failed")
    await jetray.end("waiter", "G-done")
    await jetray.publish("control.cancel.group.G", '{"reason":"superseded","requested_by":"ops"}')
    end = await jetray.end("group", "G")
    assert isinstance(end, Cancelled)
    assert (end.reason, end.requested_by, end.stage) == ("superseded", "ops", "running")
    assert end.counts == {
        "completed": 1,
        "failed": 1,
        "cancelled": 2,
        "refused": 0,
        "open": 0,
        "cancelled_running": 1,
        "cancelled_queued": 1,
    }
    found = await logs(jetray.bus)
    assert [event_name(found["waiter", f"G-{key}"][-1]) for key in ("running", "queued")] == ["cancelled"] * 2
    assert violations(found) == []


async def test_a_gateway_killed_while_it_cancels_a_batch_is_replaced(jetray: Stack) -> None:
    gateway = await jetray.gateway()
    await jetray.publish("jobs.group", group(*(f"waiter:{number}" for number in range(200))))
    await jetray.seen("waiter", "G-0", "started")
    await jetray.publish("control.cancel.group.G", "")
    await jetray.seen("waiter", "G-9", "cancelled")
    gateway.kill()
    await gateway.wait()
    await jetray.gateway("gw-2")
    end = await jetray.end("group", "G")
    assert isinstance(end, Cancelled)
    assert end.counts is not None
    assert (end.counts["cancelled"], end.counts["open"]) == (200, 0)
    assert violations(await logs(jetray.bus)) == []


async def test_a_batch_that_failed_runs_again(jetray: Stack, tmp_path: Path) -> None:
    await jetray.gateway()
    (tmp_path / "G-a").touch()
    await jetray.publish("jobs.group", group("picky:a", "picky:b", "picky:c"))
    end = await jetray.end("group", "G")
    assert isinstance(end, Failed)
    (tmp_path / "G-b").touch()
    (tmp_path / "G-c").touch()
    await jetray.publish(f"control.replay.{end.dlq_sequence}", "")
    again = await jetray.seen("group", "G", "completed")
    assert isinstance(again, Completed)
    assert again.run == 2
    found = await logs(jetray.bus)
    assert [event_name(event) for event in found["picky", "G-a"]] == ["started", "completed"]
    rerun = ["started", "failed", "requeued", "started", "completed"]
    assert [event_name(event) for event in found["picky", "G-b"]] == rerun
    assert violations(found) == []
