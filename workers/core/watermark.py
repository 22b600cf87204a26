"""When a kind is under pressure, with hysteresis, and how many children may be published into it meanwhile."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["Marks", "pressed", "room"]


class Marks(Struct, frozen=True, kw_only=True):
    """A kind's watermarks, in messages that wait for it or are in hand. `low` is below `high`."""

    high: int
    low: int


def pressed(before: bool, depth: int, marks: Marks, *, grown: bool) -> bool:
    """Whether a kind is under pressure now. `grown`: its pool has no more actors to hope for.

    From `high` on it is, down to `low` it stays so: between the two it is what it was before, so nothing flaps. A pool
    that could still grow puts no pressure on others; one that begins to grow again takes none off.
    """
    if before:
        return depth > marks.low
    return grown and depth >= marks.high


def room(pressed: bool, depth: int, marks: Marks) -> int:
    """How many children may be published into a kind until its depth is looked at again."""
    if pressed:
        return 0
    # Over the high mark and not under pressure: its pool grows, and works off more the more there is.
    return marks.high - depth if depth < marks.high else marks.high - marks.low
