"""What some gateway, not always this one, has told of a kind."""

from __future__ import annotations

from contracts import catalogue
from contracts.subjects import KINDS
from infra.bus.base import Bus
from workers.runtime.patience import patiently

__all__ = ["registered"]


async def registered(bus: Bus, kind: str) -> catalogue.KindInfo | None:
    """What KV `kinds` tells of a kind; None where no gateway has registered it. Waits for the bus."""
    value = await patiently(lambda: bus.value(KINDS, kind), what=f"reading KV {KINDS} {kind}")
    return None if value is None else catalogue.decode(value)
