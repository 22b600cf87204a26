"""Has each pool grow and shrink with the queues of its kinds: carries out what `core.scaling` decides."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

import anyio

from contracts.fleet import PoolResized
from infra.pool.base import Pool
from workers.core.scaling import Bounds, Load, Size, due, step
from workers.kinds.registry import Kind
from workers.runtime import terms
from workers.runtime.depths import Depths
from workers.runtime.fleet import Fleet
from workers.settings import Settings

__all__ = ["LOOK_S", "Scale"]

log = logging.getLogger("jetray.scale")

LOOK_S: Final = 0.1
"""Between two looks at one profile: a queue tells of itself with every message."""


class _Profile:
    """A profile whose size may change."""

    def __init__(self, name: str, bounds: Bounds) -> None:
        self.name = name
        self.bounds = bounds
        self.slots: dict[str, int] = {}
        """Kind to its jobs that one actor runs at a time."""
        self.size = Size(bounds.least)
        self.news = anyio.Event()


class Scale:
    """Sizes of pools. `serve` must be running for any of them to change."""

    def __init__(
        self,
        settings: Settings,
        kinds: Mapping[str, Kind],
        *,
        pool: Pool,
        fleet: Fleet,
        depths: Depths,
        per_slot: Callable[[str], int] = lambda kind: 1,
    ) -> None:
        """`per_slot` tells how many messages of a kind one slot takes at once."""
        self._per_slot = per_slot
        self._pool = pool
        self._fleet = fleet
        self._depths = depths
        self.changed: Callable[[], None] = lambda: None
        """Called when a pool has another size, or can have."""
        self._profiles: dict[str, _Profile] = {}
        self._of_kind: dict[str, _Profile] = {}
        for name, profile in settings.profiles.items():
            least = profile.min_actors or profile.actors
            if least < profile.actors:
                scaling = settings.scaling
                bounds = Bounds(least=least, most=profile.actors, target=scaling.target, quiet_s=scaling.quiet_s)
                self._profiles[name] = _Profile(name, bounds)
        for kind in kinds.values():
            scaled = None if kind.is_batch else self._profiles.get(terms.profile(settings, kind))
            if scaled is not None:
                self._of_kind[kind.name] = scaled
                scaled.slots[kind.name] = 1 if kind.exclusive else settings.profiles[scaled.name].concurrency
        if self._of_kind:
            depths.listeners.append(self._heard)

    def grown(self, kind: str) -> bool:
        """Whether a kind's pool has no more actors to hope for."""
        profile = self._of_kind.get(kind)
        return profile is None or profile.size.actors >= profile.bounds.most

    async def serve(self) -> None:
        """Keep the sizes right until cancelled."""
        async with anyio.create_task_group() as group:
            for profile in self._profiles.values():
                group.start_soon(self._follow, profile)

    def _heard(self, kind: str, depth: int) -> None:
        profile = self._of_kind.get(kind)
        if profile is not None:
            profile.news.set()

    async def _follow(self, profile: _Profile) -> None:
        while True:
            profile.news = anyio.Event()
            self._look(profile)
            await anyio.sleep(LOOK_S)
            with anyio.CancelScope(deadline=due(profile.size, profile.bounds)):
                await profile.news.wait()

    def _look(self, profile: _Profile) -> None:
        loads = [Load(self._depths.of(kind), slots * self._per_slot(kind)) for kind, slots in profile.slots.items()]
        before = profile.size.actors
        profile.size = step(profile.size, loads, profile.bounds, anyio.current_time())
        if profile.size.actors != before:
            self._resize(profile, before)

    def _resize(self, profile: _Profile, before: int) -> None:
        asked = profile.size.actors
        after = self._pool.resize(profile.name, asked)
        if after < asked:
            # A pool without Ray has one actor, whatever its profile says.
            profile.bounds = Bounds(
                least=after, most=after, target=profile.bounds.target, quiet_s=profile.bounds.quiet_s
            )
            profile.size = Size(after)
        if after != before:
            depth = sum(self._depths.of(kind) for kind in profile.slots)
            log.info("profile %s: %d actors, after %d, for %d messages", profile.name, after, before, depth)
            self._fleet.say(PoolResized, profile=profile.name, before=before, after=after, depth=depth)
        self.changed()
