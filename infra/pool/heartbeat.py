"""Whether an actor's loop still answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import anyio

from infra.pool.actor import ActorLost, lost
from infra.pool.execution import Berth

__all__ = ["Heartbeat"]

TICKS: Final = 10
"""Silence is counted in so many pieces. A gateway that was itself stopped for long counts one of them, not all."""


class Heartbeat:
    """Asks one actor, and condemns it where it stays silent for `silent_s`, moments that are `excused` apart."""

    def __init__(self, berth: Berth, *, silent_s: float, excused: Callable[[], bool]) -> None:
        self._berth = berth
        self._silent_s = silent_s
        self._excused = excused

    async def next(self) -> int | None:
        """The resident memory, once the actor has answered; None where it is condemned."""
        answers: list[int] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._ask, answers, tasks.cancel_scope)
            tasks.start_soon(self._count, tasks.cancel_scope)
        return answers[0] if answers else None

    async def _ask(self, answers: list[int], scope: anyio.CancelScope) -> None:
        try:
            answers.append(await self._berth.actor.pulse())
        except ActorLost as gone:
            self._berth.condemn(gone.error)
        scope.cancel()

    async def _count(self, scope: anyio.CancelScope) -> None:
        ticks = 0
        while ticks < TICKS:
            await anyio.sleep(self._silent_s / TICKS)
            # A sync job may keep the loop from answering for as long as its own deadline lets it.
            ticks = 0 if self._excused() else ticks + 1
        message = f"the event loop of {self._berth.name} has not answered for {self._silent_s:g} s"
        self._berth.condemn(lost("ActorSilent", message))
        scope.cancel()
