"""What the rooms of a gateway share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from infra.bus.base import Bus
from infra.pool.base import Pool
from infra.store.base import Store
from workers.kinds.batching import BatchCode
from workers.kinds.registry import Kind
from workers.runtime.delayed import Delayed
from workers.runtime.depths import Depths
from workers.runtime.fleet import Fleet
from workers.runtime.intake import Intake
from workers.runtime.journal import Journal
from workers.runtime.lease import Leases
from workers.runtime.limits import Limits
from workers.runtime.live import Live
from workers.runtime.pressure import Pressure
from workers.runtime.settle import Settle
from workers.runtime.terms import Terms
from workers.runtime.upstream import Upstream
from workers.settings import Settings

__all__ = ["Rooms"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """Made once by the gateway, handed to whoever needs more than one of them."""

    settings: Settings
    bus: Bus
    pool: Pool
    store: Store
    kinds: dict[str, Kind]
    terms: dict[str, Terms]
    """On what terms each kind runs."""
    batches: dict[str, BatchCode]
    """The code of each batch kind: what expands and reduces."""
    journal: Journal
    intake: Intake
    leases: Leases
    settle: Settle
    live: Live
    limits: Limits
    delayed: Delayed
    depths: Depths
    fleet: Fleet
    pressure: Pressure
    upstream: Upstream
    jitter: Callable[[], float] = field(repr=False)
    """Uniform in [0, 1)."""
