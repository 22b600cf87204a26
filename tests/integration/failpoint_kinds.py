"""What the workloads of failpoints are made of: a module of kinds, and settings, as a gateway reads them."""

from __future__ import annotations

from typing import Final

__all__ = ["ACK_WAIT_S", "KINDS", "SETTINGS"]

ACK_WAIT_S: Final = 2.0

SETTINGS = f"""
routes = []
[kinds]
modules = ["some_kinds"]
[gateway]
ack_wait_s = {ACK_WAIT_S}
grace_s = 0.5
[retry]
base_s = 0.2
cap_s = 0.4
"""

KINDS = """
import time
from collections.abc import Sequence
from pathlib import Path

import anyio
import msgspec

from workers import Child, ChildEnd, Fail, JobContext, Retry, batch, job


class Task(msgspec.Struct):
    id: str
    value: int = 0


@job("brief", id_field="id")
def brief(task: Task) -> int:
    return task.value


@job("slow", id_field="id")
def slow(task: Task) -> int:
    time.sleep(2.5)
    return task.value


@job("large", id_field="id")
def large(task: Task) -> str:
    return "x" * 300_000


@job("talker", id_field="id")
async def talker(ctx: JobContext, task: Task) -> int:
    ctx.progress(message="talking")
    ctx.emit("response.progress", {"said": task.id})
    await anyio.sleep(0.3)
    return task.value


@job("once", id_field="id")
def once(task: Task) -> int | Retry:
    seen = Path(__file__).with_name(f"once-{task.id}")
    if not seen.exists():
        seen.touch()
        return Retry("not at first", after=task.value)
    return task.value


@job("never", id_field="id")
def never(task: Task) -> int | Fail:
    return Fail("never")


@job("picky", id_field="id")
def picky(task: Task) -> int | Fail:
    return 1 if Path(__file__).with_name(f"good-{task.id.split('.')[0]}").exists() else Fail("not yet")


@job("patient", id_field="id")
async def patient(ctx: JobContext, task: Task) -> int:
    await anyio.sleep_forever()
    return 0


def children(group: Task, kind: str, *, of: str) -> list[Child]:
    return [Child(key=key, kind=kind, input={"id": f"{group.id}.{key}"}) for key in ("a", "b")]


def completed(ends: Sequence[ChildEnd]) -> int:
    return sum(end.outcome == "completed" for end in ends)


@batch("pair", id_field="id")
class Pair:
    def expand(self, group: Task) -> list[Child]:
        return children(group, "brief", of="pair")

    def reduce(self, group: Task, ends: Sequence[ChildEnd]) -> int:
        return completed(ends)


@batch("waiting", id_field="id")
class Waiting:
    def expand(self, group: Task) -> list[Child]:
        return children(group, "patient", of="waiting")

    def reduce(self, group: Task, ends: Sequence[ChildEnd]) -> int:
        return completed(ends)


@batch("careful", id_field="id")
class Careful:
    def expand(self, group: Task) -> list[Child]:
        return children(group, "picky", of="careful")

    def reduce(self, group: Task, ends: Sequence[ChildEnd]) -> int | Fail:
        return completed(ends) if completed(ends) == len(ends) else Fail("not all of them")


@batch("strange", id_field="id")
class Strange:
    def expand(self, group: Task) -> list[Child]:
        known = Child(key="known", kind="patient", input={"id": group.id})
        return [known, Child(key="unknown", kind="unheard-of", input={})]

    def reduce(self, group: Task, ends: Sequence[ChildEnd]) -> int:
        return 0
"""
