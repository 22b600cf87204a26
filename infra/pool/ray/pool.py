"""The Ray pool: actors of one class, in profiles, on an embedded Ray or in a cluster."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from typing import Final

from infra.pool.actor import Actor
from infra.pool.base import HostSpec, Profile
from infra.pool.crewed import CrewedPool
from infra.pool.ray.address import Address
from infra.pool.ray.cluster import Cluster, EmbeddedRay, JoinedRay
from infra.pool.ray.own_thread import in_own_thread

__all__ = ["RayPool"]

BEAT_S: Final = 2.0
"""Between two heartbeats of an actor."""


class RayPool(CrewedPool):
    """Runs jobs in Ray actors, on asyncio. `cluster` is for whoever has a Ray already, instead of an `address`."""

    def __init__(
        self,
        profiles: Iterable[Profile],
        host: HostSpec,
        *,
        gateway: str,
        address: Address | None = None,
        cluster: Cluster | None = None,
    ) -> None:
        profiles = list(profiles)
        if cluster is None:
            cluster = EmbeddedRay(profiles) if address is None or address.embedded else JoinedRay(address)
        super().__init__(profiles, _RaySpawner(host, cluster), gateway=gateway)


class _RaySpawner:
    beat_s = BEAT_S

    def __init__(self, host: HostSpec, cluster: Cluster) -> None:
        self._host = host
        self._cluster = cluster

    def open(self) -> AbstractAsyncContextManager[None]:
        return in_own_thread(self._cluster)

    def spawn(self, profile: Profile, name: str) -> Actor:
        from infra.pool.ray.handle import RayActor  # it imports Ray, which is there by now

        return RayActor(name, profile, self._host)

    def concurrency(self, profile: Profile) -> int:
        return profile.concurrency
