"""Attempts whose user code ran on beside the next attempt's.

Nothing is promised of them: what is frozen, killed, or without a processor cannot end what it started, and of a message
that was long on its way nobody knows that its lease is over. But where nothing of the kind happened, the lease should
have ended the earlier attempt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct

from contracts.events import Started
from tests.chaos.evidence import Evidence
from tests.chaos.faults import Struck
from tests.chaos.kinds import Entry

__all__ = ["Overlap", "overlaps"]

ExecutionKey = tuple[str, str, int, int]

EXCUSES: Final = ("gateway killed", "gateway frozen", "partition", "raylet killed", "GCS killed")
ANYBODYS: Final = ("raylet killed", "GCS killed")
"""Of these it is not known whose they were."""
EXCUSED_S: Final = 15.0
"""For so long after such a fault something that it left behind may still run."""


class Overlap(Struct, frozen=True):
    """Two attempts that ran at once."""

    job: str
    attempt: int
    """The earlier one."""
    began: float
    seconds: float
    excuse: str | None
    """The fault that explains it."""


def overlaps(seen: Evidence, struck: Sequence[Struck]) -> list[Overlap]:
    """Those that the ledger tells of, the longest first. Kinds without a context do not know their attempts."""
    began = _entries(seen.ledger, "began")
    holders = _holders(seen)
    found = [
        Overlap(
            f"{end.kind}.{end.job_id}",
            end.attempt,
            began[key].time,
            end.time - later.time,
            _excuse(holders.get(key, ""), began[key].time, end.time, struck),
        )
        for key, end in _entries(seen.ledger, "ended").items()
        if (later := began.get((*key[:3], key[3] + 1))) is not None and end.time > later.time
    ]
    return sorted(found, key=lambda each: -each.seconds)


def _excuse(gateway: str, began: float, ended: float, struck: Iterable[Struck]) -> str | None:
    for fault in struck:
        is_whose = fault.fault in ANYBODYS or fault.target.partition(",")[0] == gateway
        healed = fault.began if fault.healed is None else fault.healed
        if fault.fault in EXCUSES and is_whose and fault.began <= ended and began <= healed + EXCUSED_S:
            return f"{fault.fault} {fault.target}"
    return None


def _entries(ledger: Iterable[Entry], what: str) -> dict[ExecutionKey, Entry]:
    return {(e.kind, e.job_id, e.run, e.attempt): e for e in ledger if e.what == what and e.attempt}


def _holders(seen: Evidence) -> dict[ExecutionKey, str]:
    return {
        (kind, job_id, written.event.run, written.event.attempt): written.event.gateway
        for (kind, job_id), log in seen.logs.items()
        for written in log
        if isinstance(written.event, Started)
    }
