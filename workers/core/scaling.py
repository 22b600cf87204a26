"""How many actors a profile is to have. Pure: depths and the time are passed in.

Up at once, as far as the queues ask for. Down one by one, and only once fewer would have done for a quiet time: a queue
that comes in waves is not met by actors that come and go with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

__all__ = ["Bounds", "Load", "Size", "due", "step", "wanted"]


class Bounds(Struct, frozen=True, kw_only=True):
    """Within what, and how eagerly."""

    least: int
    most: int
    target: float
    """Messages, waiting and in hand, that are right for one slot."""
    quiet_s: float
    """For how long fewer actors must have been enough before one is let go."""


class Load(Struct, frozen=True):
    """What one kind asks of its profile."""

    depth: int
    slots: int
    """Jobs of the kind that one actor runs at a time."""


class Size(Struct, frozen=True):
    """How many actors there are to be, and since when fewer would do."""

    actors: int
    since: float | None = None


def wanted(loads: Iterable[Load], bounds: Bounds) -> int:
    """What the queues ask for, within the bounds."""
    asked = math.ceil(sum(load.depth / load.slots for load in loads) / bounds.target)
    return max(bounds.least, min(asked, bounds.most))


def step(size: Size, loads: Iterable[Load], bounds: Bounds, now: float) -> Size:
    """The size from `now` on."""
    asked = wanted(loads, bounds)
    if asked >= size.actors:
        return Size(asked)
    if size.since is None:
        return replace(size, since=now)
    if now < size.since + bounds.quiet_s:
        return size
    fewer = size.actors - 1
    return Size(fewer, now if asked < fewer else None)


def due(size: Size, bounds: Bounds) -> float:
    """When to look again though nothing is heard of the queues."""
    return math.inf if size.since is None else size.since + bounds.quiet_s
