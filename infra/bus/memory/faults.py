"""What may go wrong on the way to the server and back."""

from __future__ import annotations

from typing import Literal

import anyio.lowlevel

from infra.bus.base import Delivery

__all__ = ["Fate", "Faults"]

Fate = Literal["arrives", "lost", "twice"]
"""Of a delivery. `lost`: the server has leased it out, and nobody has it. `twice`: it arrives, and the server hands it
out again at once, as after a change of leader."""


class Faults:
    """Nothing goes wrong. Simulations override what they need.

    `op` is the name of the bus's method; `subject` is what it was called with: a subject, a filter,
    `<stream>:<sequence>` or `<stream>.<consumer>`.
    """

    async def before(self, op: str, subject: str) -> None:
        """On the way there: may wait, or raise `NoAnswer`, lost before the server saw it; settling, unnoticed."""
        await anyio.lowlevel.checkpoint()

    async def after(self, op: str, subject: str) -> None:
        """On the way back: may wait, or raise `NoAnswer`: the server has done it, and nobody knows."""
        await anyio.lowlevel.checkpoint()

    def delivery(self, delivery: Delivery) -> Fate:
        """What becomes of a delivery."""
        return "arrives"
