"""A message published anew: by a replay as the next run's, by a move as a copy at the tail of its queue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from contracts import headers as h
from contracts import subjects
from infra.bus.base import Bus, BusError
from workers.runtime.patience import patiently

__all__ = ["reissue"]

_NOT_COPIED: Final = ("nats-", "jetray-job-id", "jetray-run", "jetray-origin")
"""Headers of the original that no copy may bear as they are: a raw `Nats-Expected-*` would make it refusable."""


async def reissue(
    bus: Bus,
    *,
    kind: str,
    job_id: str,
    run: int,
    body: bytes,
    originals: Mapping[str, str],
    subject: str,
    message_id: str,
    origin: str | None = None,
    unless: tuple[type[BusError], ...] = (),
) -> None:
    """Publish the job's message to its kind's queue. Waits for the bus; raises `TooLarge` and what `unless` names.

    `subject` is where the original was published, unless its headers tell of an earlier one; `origin` names the message
    that the log belongs to, where that is not the copy itself.
    """
    kept = {name: value for name, value in originals.items() if not name.lower().startswith(_NOT_COPIED)}
    bears = {
        **kept,
        h.MSG_ID: message_id,
        h.JOB_ID: job_id,
        h.RUN: str(run),
        h.ORIGIN_SUBJECT: _first_subject(originals) or subject,
    }
    if origin is not None:
        bears[h.ORIGIN] = origin
    queue = subjects.job(kind)
    await patiently(lambda: bus.publish(queue, body, bears), what=queue, unless=unless)


def _first_subject(originals: Mapping[str, str]) -> str | None:
    return next((value for name, value in originals.items() if name.lower() == h.ORIGIN_SUBJECT.lower()), None)
