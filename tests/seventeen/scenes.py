"""What is done to provoke the events: each scene does the real thing that some of them tell of."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from contracts import subjects
from contracts.events import Cancelled, Completed, Failed
from infra.bus.base import Refused
from tests.integration.stack import Stack
from tests.seventeen.asked import BROKEN, CALLED_OFF, HELD, LAST, LINKED, VARIANTS, WHOLE
from tests.seventeen.evidence import heard

__all__ = ["SCENES", "NotSo", "Scene"]

WITHIN_S: Final = 60


class NotSo(Exception):
    """A scene did not go as it must."""


Scene = Callable[[Stack, Path], Awaitable[None]]
"""Jobs wait for files in the folder."""


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
    for number in range(HELD):
        await jetray.publish("jobs.hold", f'{{"id":"held-{number}","until":"all-may-go"}}')
    await _said(jetray, "workers.backpressure.applied", kind="hold")
    (folder / "all-may-go").touch()
    for number in range(HELD):
        await _ends(jetray, "hold", f"held-{number}", Completed)
    await _said(jetray, "workers.backpressure.released", kind="hold")


async def a_batch_completes(jetray: Stack, folder: Path) -> None:
    """Four variants run, two at a time, and leave two files each, of which a pattern asks for one."""
    await _publish(jetray, WHOLE)
    others = len(VARIANTS) - 1
    await _told(jetray, subjects.EVENTS, "orchestration.batch.progress.whole", done=others, total=len(VARIANTS))
    last = next(each for each in WHOLE["variants"] if each["name"] == LAST)
    (folder / last["parameters"]["until"]).touch()
    await _ends(jetray, "batch", "whole", Completed)


async def a_batch_fails(jetray: Stack, folder: Path) -> None:
    """A variant raises each time that it is tried, and the policy is to stop there."""
    await _publish(jetray, BROKEN)
    await _ends(jetray, "batch", "broken", Failed)


async def a_batch_is_cancelled(jetray: Stack, folder: Path) -> None:
    """Somebody cancels a batch of which one variant has ended and another runs."""
    await _publish(jetray, CALLED_OFF)
    await _ends(jetray, "variant", "called-off-quick", Completed)
    await jetray.seen("variant", "called-off-endless", "started", within_s=WITHIN_S)
    await jetray.publish("control.cancel.batch.called-off", '{"reason":"superseded","requested_by":"somebody"}')
    await _ends(jetray, "batch", "called-off", Cancelled)


async def a_file_is_refused(jetray: Stack, folder: Path) -> None:
    """A variant leaves a link among its files, which could lead anywhere."""
    await _publish(jetray, LINKED)
    await _ends(jetray, "batch", "linked", Completed)


SCENES: Final[tuple[Scene, ...]] = (
    pools_start,
    an_actor_dies,
    a_queue_fills,
    a_batch_completes,
    a_batch_fails,
    a_batch_is_cancelled,
    a_file_is_refused,
)


async def _publish(jetray: Stack, batch: Mapping[str, Any]) -> None:
    try:
        await jetray.publish("jobs.batch", msgspec.json.encode(batch))
    except Refused as error:
        raise NotSo(f"jobs.batch: {error}") from error


async def _ends(jetray: Stack, kind: str, job_id: str, how: type[Completed | Failed | Cancelled]) -> None:
    end = await jetray.end(kind, job_id, within_s=WITHIN_S)
    if not isinstance(end, how):
        raise NotSo(f"{kind}.{job_id}: {msgspec.json.encode(end).decode()}")


async def _said(jetray: Stack, event: str, **fields: str) -> None:
    await _told(jetray, subjects.WORKERS, f"{event}.*", **fields)


async def _told(jetray: Stack, stream: str, subject: str, **fields: Any) -> None:
    async with asyncio.timeout(WITHIN_S):
        await heard(jetray.bus, stream, subject, **fields)
