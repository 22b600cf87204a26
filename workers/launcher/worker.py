"""`jetray worker`: one gateway, from settings to exit. The only place that knows which adapters there are."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import platform
import random
import secrets
import signal
from collections.abc import Mapping
from typing import Final

import anyio
import msgspec

from contracts.fleet import Versions
from contracts.subjects import ARTIFACTS
from infra.bus.nats import NatsBus, connect
from infra.pool import provenance
from infra.pool.base import HostSpec, Pool, Profile
from infra.store.objects import ObjectStore
from workers.kinds.host import HostConfig
from workers.kinds.registry import Kind, load
from workers.runtime import terms
from workers.runtime.gateway import Gateway
from workers.settings import Settings, check_kinds

__all__ = ["READY_FD", "serve"]

log = logging.getLogger("jetray.gateway")

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
READY_FD: Final = "JETRAY_READY_FD"
"""Environment: a file descriptor that wants one line `serving` once messages are pulled."""


async def serve(settings: Settings) -> None:
    """Run a gateway until SIGTERM or SIGINT; a second one ends it at once.

    Raises `BadSettings`, `KindError`, `ConfigError` and `Foreign`, each one line that says what to do.
    """
    kinds = load(settings.kinds.modules)
    check_kinds(settings, kinds)
    pool = _pool(settings, kinds)
    async with connect(
        settings.nats.url,
        name=f"jetray {settings.gateway.name}",
        credentials=settings.nats.credentials,
        inbox_prefix=settings.nats.inbox_prefix,
    ) as bus:
        gateway = Gateway(
            settings,
            kinds,
            bus=bus,
            pool=pool,
            store=ObjectStore(bus, ARTIFACTS),
            versions=_versions(settings, bus),
            nonce=secrets.token_hex(8),
            jitter=random.random,
        )
        async with anyio.create_task_group() as group:
            group.start_soon(_heed_signals, gateway, pool, list(settings.profiles), group.cancel_scope)
            await gateway.run(_say_serving)
            group.cancel_scope.cancel()


async def _heed_signals(gateway: Gateway, pool: Pool, profiles: list[str], everything: anyio.CancelScope) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(_heed, gateway, everything)
        await pool.wait_free(profiles[0], exclusive=False)
        group.cancel_scope.cancel()
    # Ray's own handler, which prints a stack, was put over ours when Ray started.
    await _heed(gateway, everything)


async def _heed(gateway: Gateway, everything: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(*SIGNALS) as signals:
        async for number in signals:
            name = signal.Signals(number).name
            if gateway.draining:
                log.warning("%s again: leaving at once, what runs comes back with the end of its lease", name)
                everything.cancel()
                return
            gateway.drain(name)


def _say_serving() -> None:
    log.info("serving")
    descriptor = os.environ.get(READY_FD)
    if descriptor is not None:
        os.write(int(descriptor), b"serving\n")
        os.close(int(descriptor))


def _pool(settings: Settings, kinds: Mapping[str, Kind]) -> Pool:
    profiles = [
        Profile(
            name=name,
            actors=profile.actors,
            cpus=profile.cpus,
            gpus=profile.gpus,
            memory=profile.memory,
            concurrency=profile.concurrency,
            runtime_env=profile.runtime_env,
        )
        for name, profile in settings.profiles.items()
    ]
    config = HostConfig(modules=settings.kinds.modules, kinds=terms.configs(settings))
    host = HostSpec(factory="workers.kinds.host:build", config=msgspec.json.encode(config))
    if settings.ray.address == "none":
        from infra.pool.process import ProcessPool

        return ProcessPool(profiles, host, gateway=settings.gateway.name)
    from infra.pool.ray.address import parse_address
    from infra.pool.ray.pool import RayPool

    return RayPool(profiles, host, gateway=settings.gateway.name, address=parse_address(settings.ray.address))


def _versions(settings: Settings, bus: NatsBus) -> Versions:
    ray = None
    if settings.ray.address != "none":
        ray = importlib.metadata.version("ray")
    return Versions(
        jetray=provenance.version(), python=platform.python_version(), ray=ray, nats_server=bus.server_version
    )
