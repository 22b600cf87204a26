"""All guards, by what they are about."""

from __future__ import annotations

from typing import Final

from tests.mutation.guard import Guard
from tests.mutation.guards import batches, commands, log, pool, settle, start, trains

__all__ = ["GUARDS"]

GUARDS: Final[tuple[Guard, ...]] = (
    *log.GUARDS,
    *start.GUARDS,
    *settle.GUARDS,
    *pool.GUARDS,
    *commands.GUARDS,
    *batches.GUARDS,
    *trains.GUARDS,
)
