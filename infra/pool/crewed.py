"""What all pools have in common: a crew for each profile."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import anyio

from infra.pool.actor import Spawner
from infra.pool.base import PoolListener, Profile, Reservation, Slots
from infra.pool.crew import Crew

__all__ = ["CrewedPool"]


class CrewedPool:
    """A `Pool` whose actors come from a spawner."""

    def __init__(self, profiles: Iterable[Profile], spawner: Spawner, *, gateway: str) -> None:
        self._spawner = spawner
        self._crews = {profile.name: Crew(profile, spawner, gateway=gateway) for profile in profiles}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self._crews)})"

    async def serve(self, listener: PoolListener) -> None:
        """Start, and keep actors alive until cancelled; then stop everything. To be called once."""
        async with self._spawner.open(), anyio.create_task_group() as tasks:
            for crew in self._crews.values():
                crew.keep(tasks, listener)
        for crew in self._crews.values():
            if crew.refusal is not None:
                raise crew.refusal

    def slots(self, profile: str, *, exclusive: bool) -> Slots:
        """Room for jobs now, and when all actors are ready and idle."""
        return self._crews[profile].slots(exclusive=exclusive)

    def resize(self, profile: str, actors: int) -> int:
        """Have so many actors, within the profile's bounds; how many that is."""
        return self._crews[profile].resize(actors)

    def report(self) -> dict[str, dict[str, Any]]:
        """For eyes: each profile's size, and how many of its actors are in each state."""
        return {name: crew.report() for name, crew in self._crews.items()}

    async def wait_free(self, profile: str, *, exclusive: bool) -> None:
        """Return once there is room."""
        await self._crews[profile].wait_free(exclusive=exclusive)

    def reserve_now(self, profile: str, *, exclusive: bool) -> Reservation | None:
        """Take a slot, or a whole actor for an exclusive call, if there is one for whoever comes now."""
        return self._crews[profile].reserve_now(exclusive=exclusive)

    async def reserve(self, profile: str, *, exclusive: bool) -> Reservation:
        """Take a slot, or a whole actor for an exclusive call; waits its turn for one."""
        return await self._crews[profile].reserve(exclusive=exclusive)
