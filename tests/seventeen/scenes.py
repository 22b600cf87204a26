"""What is done to provoke the events: each scene does the real thing that some of them tell of."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from contracts.events import Cancelled, Completed, Failed
from infra.bus.base import Refused
from tests.integration.stack import Stack
from tests.seventeen.evidence import Told, heard
from tests.seventeen.workflows import CURVE

__all__ = ["HELD", "HIGH", "LOW", "SCENES", "VARIANTS", "NotSo", "Scene", "prepare"]

HIGH: Final = 6
LOW: Final = 2
HELD: Final = 12
"""Jobs that are published at once into a queue whose high watermark is half of that."""
MEMORY: Final = 64 * 1024**2
VARIANTS: Final = {"low": 1.0, "near": 2.5, "best": 3.0, "far": 6.0}
"""Of the batch that completes, with the place of each on the curve."""
WITHIN_S: Final = 60

_SETTINGS: Final = f"""
routes = []

[kinds]
modules = ["tests.seventeen.kinds"]
[kinds.settings.hold]
high = {HIGH}
low = {LOW}

[gateway]
grace_s = 2

[profiles.default]
actors = 2
cpus = 0

[profiles.narrow]
actors = 1
cpus = 0
memory = {MEMORY}
concurrency = 1
"""


class NotSo(Exception):
    """A scene did not go as it must."""


Scene = Callable[[Stack, Path], Awaitable[None]]


def prepare(folder: Path) -> None:
    """Write the settings of the gateway that will run in this folder."""
    (folder / "jetray.toml").write_text(_SETTINGS)


async def pools_start(jetray: Stack, folder: Path) -> None:
    """A gateway begins, and with it a Ray and two pools."""
    for profile in ("default", "narrow"):
        await _said(jetray, "workers.pool.created", profile=profile)


async def an_actor_dies(jetray: Stack, folder: Path) -> None:
    """A job ends well; the next one kills the process that runs it."""
    await jetray.publish("jobs.doom", '{"id":"well","deadly":false}')
    await _ends(jetray, "doom", "well", Completed)
    await jetray.publish("jobs.doom", '{"id":"deadly","deadly":true}')
    await _ends(jetray, "doom", "deadly", Failed)
    await _said(jetray, "workers.actor.restarted", profile="narrow")


async def a_queue_fills(jetray: Stack, folder: Path) -> None:
    """Twelve jobs come at once to an actor that holds on to the first; then all are let go."""
    until = folder / "held-jobs-may-end"
    for number in range(HELD):
        await jetray.publish("jobs.hold", msgspec.json.encode({"id": f"held-{number}", "until": str(until)}))
    await _said(jetray, "workers.backpressure.applied", kind="hold")
    until.touch()
    for number in range(HELD):
        await _ends(jetray, "hold", f"held-{number}", Completed)
    await _said(jetray, "workers.backpressure.released", kind="hold")


async def a_batch_completes(jetray: Stack, folder: Path) -> None:
    """Four variants run, two at a time, and leave files of which one pattern asks for one."""
    variants = [{"name": name, "parameters": {"x": x}} for name, x in VARIANTS.items()]
    await _publish(jetray, "whole", variants, files={"include": ["*.csv"], "exclude": [], "max_bytes": 1_000_000})
    await _ends(jetray, "batch", "whole", Completed)


async def a_batch_fails(jetray: Stack, folder: Path) -> None:
    """The first variant raises, and the policy is to stop there."""
    variants = [
        {"name": "broken", "parameters": {"x": 1.0, "fails": True}},
        {"name": "waiting", "parameters": {"x": 2.0, "until": str(folder / "never")}},
    ]
    await _publish(jetray, "broken", variants, policy="fail_fast")
    await _ends(jetray, "batch", "broken", Failed)


async def a_batch_is_cancelled(jetray: Stack, folder: Path) -> None:
    """Somebody cancels a batch of which one variant has ended and another runs."""
    variants = [
        {"name": "quick", "parameters": {"x": 1.0}},
        {"name": "endless", "parameters": {"x": 2.0, "until": str(folder / "never")}},
    ]
    await _publish(jetray, "called-off", variants)
    await _ends(jetray, "variant", "called-off-quick", Completed)
    await jetray.seen("variant", "called-off-endless", "started", within_s=WITHIN_S)
    await jetray.publish("control.cancel.batch.called-off", '{"reason":"superseded","requested_by":"somebody"}')
    await _ends(jetray, "batch", "called-off", Cancelled)


async def files_are_too_large(jetray: Stack, folder: Path) -> None:
    """A variant leaves a file that is larger than its batch allows."""
    variants = [{"name": "large", "parameters": {"x": 1.0}}]
    await _publish(jetray, "too-large", variants, files={"include": [CURVE], "exclude": [], "max_bytes": 1})
    await jetray.seen("variant", "too-large-large", "files_tracking_failed", within_s=WITHIN_S)


SCENES: Final[tuple[Scene, ...]] = (
    pools_start,
    an_actor_dies,
    a_queue_fills,
    a_batch_completes,
    a_batch_fails,
    a_batch_is_cancelled,
    files_are_too_large,
)


async def _publish(
    jetray: Stack, batch_id: str, variants: list[dict[str, Any]], *, policy: str = "all", **more: Any
) -> None:
    asked = {
        "batch_id": batch_id,
        "workflow": "tests.seventeen.workflows:score",
        "variants": variants,
        "parallelism": 2,
        "policy": policy,
        **more,
    }
    try:
        await jetray.publish("jobs.batch", msgspec.json.encode(asked))
    except Refused as error:
        raise NotSo(f"jobs.batch: {error}") from error


async def _ends(jetray: Stack, kind: str, job_id: str, how: type[Completed | Failed | Cancelled]) -> None:
    end = await jetray.end(kind, job_id, within_s=WITHIN_S)
    if not isinstance(end, how):
        raise NotSo(f"{kind}.{job_id}: {msgspec.json.encode(end).decode()}")


async def _said(jetray: Stack, event: str, **fields: str) -> Told:
    async with asyncio.timeout(WITHIN_S):
        return await heard(jetray.bus, event, **fields)
