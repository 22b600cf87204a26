"""Wait and repeat what the bus or the store cannot do just now, for as long as one is let.

The one policy for all that waits: pauses that double up to two seconds, one line in the log at once and not one a try,
and no patience for what is too large, which waiting does not mend. Whoever waits gives up with the lease.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Final, TypeVar

import anyio

from infra.bus.base import BusError, Disconnected, StreamFull, TooLarge
from infra.store.base import StoreError

__all__ = ["WhenFull", "patiently"]

log = logging.getLogger("jetray.patience")

FIRST_WAIT_S: Final = 0.02
LAST_WAIT_S: Final = 2.0
REMIND_S: Final = 60.0
"""Between two lines in the log about the same wait."""

T = TypeVar("T")
WhenFull = Callable[[StreamFull], AbstractContextManager[object]]
"""What is entered when a stream is found full, and left once the operation succeeds or is given up."""


async def patiently(
    operation: Callable[[], Awaitable[T]],
    *,
    what: str,
    unless: tuple[type[BusError | StoreError], ...] = (),
    when_full: WhenFull | None = None,
) -> T:
    """What `operation` returns once it succeeds. Raises `TooLarge`, and `unless`. `what` names it in the log."""
    wait = FIRST_WAIT_S
    complaint = _Complaint(what)
    stands = False
    hopeless: tuple[type[BusError | StoreError], ...] = (TooLarge, *unless)
    with ExitStack() as full:
        while True:
            try:
                return await operation()
            except hopeless:
                raise
            except Disconnected as error:
                # The bus has said so, once for all that wait for it.
                log.debug("%s waits: %s", what, error)
            except StreamFull as error:
                if when_full is None:
                    complaint.say(error)
                elif not stands:
                    full.enter_context(when_full(error))
                    stands = True
            except (BusError, StoreError) as error:
                complaint.say(error)
            await anyio.sleep(wait)
            wait = min(2 * wait, LAST_WAIT_S)


class _Complaint:
    """Says why something waits: at once, and then every minute."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._next = -math.inf

    def say(self, error: Exception) -> None:
        now = anyio.current_time()
        level = logging.WARNING if now >= self._next else logging.DEBUG
        if level == logging.WARNING:
            self._next = now + REMIND_S
        log.log(level, "%s waits: %s", self._what, error)
