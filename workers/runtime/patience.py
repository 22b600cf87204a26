"""Wait and repeat what the bus or the store cannot do just now, for as long as one is let."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import anyio

from infra.bus.base import BusError, StreamFull, TooLarge
from infra.store.base import StoreError

__all__ = ["patiently"]

log = logging.getLogger("jetray.patience")

FIRST_WAIT_S: Final = 0.02
LAST_WAIT_S: Final = 2.0

T = TypeVar("T")


async def patiently(operation: Callable[[], Awaitable[T]], *, unless: tuple[type[BusError], ...] = ()) -> T:
    """What `operation` returns once it succeeds. Raises `TooLarge`, which waiting does not mend, and `unless`.

    Whoever calls it gives up with the lease.
    """
    wait = FIRST_WAIT_S
    hopeless: tuple[type[BusError], ...] = (TooLarge, *unless)
    while True:
        try:
            return await operation()
        except hopeless:
            raise
        except StreamFull as error:
            log.error("no room, so nothing is acknowledged until there is: %s", error)
        except (BusError, StoreError) as error:
            log.info("waiting: %s", error)
        await anyio.sleep(wait)
        wait = min(2 * wait, LAST_WAIT_S)
