"""The faults of a run, one after another: what strikes when follows from the seed."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from tests.chaos.faults import Fault, FillDisk, KillLeader, Struck
from tests.chaos.world import World

__all__ = ["Storm"]

log = logging.getLogger("chaos")


class Storm:
    """Draws faults like cards: each comes once before any comes again, so many seconds after the last one."""

    def __init__(
        self,
        world: World,
        faults: Sequence[Fault],
        dice: random.Random,
        note: Callable[[Struck], None],
        *,
        between_s: tuple[float, float],
    ) -> None:
        self.struck: list[Struck] = []
        self._world = world
        self._faults = list(faults)
        self._dice = dice
        self._note = note
        self._between_s = between_s

    async def rage(self, until: float) -> None:
        """Strike until that moment of the loop's clock; whatever happens, what was struck is healed."""
        loop = asyncio.get_running_loop()
        deck: list[Fault] = []
        while (next_at := loop.time() + self._dice.uniform(*self._between_s)) < until:
            if not deck:
                deck = self._dice.sample(self._faults, len(self._faults))
                # From the end: what only one of the worlds has, so that a short run has it too.
                deck.sort(key=lambda fault: fault.name in (FillDisk.name, KillLeader.name))
            await self._strike(deck.pop())
            await asyncio.sleep(max(0.0, next_at - loop.time()))

    async def _strike(self, fault: Fault) -> None:
        struck = Struck(fault.name, "", time.time())
        self.struck.append(struck)
        log.info("%s ...", fault.name)
        try:
            target = await fault.strike(self._world, self._dice)
        finally:
            await _to_its_end(fault.heal(self._world))
        struck.target, struck.skipped = target or "", target is None
        struck.healed = time.time()
        log.info("%s: %s", fault.name, target or "nothing to strike just now")
        self._note(struck)


async def _to_its_end(healing: Coroutine[Any, Any, None]) -> None:
    """A run that is broken off must not leave a process frozen or a disk full."""
    task = asyncio.create_task(healing)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
