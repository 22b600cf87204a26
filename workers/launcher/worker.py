"""`jetray worker`: one gateway, from settings to exit. The only place that knows which adapters there are."""

from __future__ import annotations

import gc
import importlib.metadata
import logging
import os
import platform
import random
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from typing import Final

import anyio
import msgspec

from contracts.fleet import Versions
from contracts.subjects import ARTIFACTS
from infra.bus.nats import NatsBus, connect
from infra.pool import provenance
from infra.pool.base import HostSpec, Pool
from infra.pool.ray.own_thread import starting_alone
from infra.pool.ray.tree import kill_below
from infra.store.files import NatsAccess
from infra.store.objects import ObjectStore
from workers.hosting import HostConfig, StorageConfig, WorkspacesConfig
from workers.kinds.registry import Kind, load
from workers.launcher import exits
from workers.launcher.exits import Failure
from workers.runtime import terms
from workers.runtime.gateway import Gateway
from workers.settings import Settings, check_kinds

__all__ = ["READY_FD", "leave_behind", "serve"]

log = logging.getLogger("jetray.gateway")

GC_THRESHOLDS: Final = (10_000, 10, 10)
"""Objects made, and collections of the younger ones, before Python looks for cycles; Python's own are 700, 10, 10."""
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
READY_FD: Final = "JETRAY_READY_FD"
"""Environment: a file descriptor that wants one line `serving` once messages are pulled."""


async def serve(settings: Settings) -> None:
    """Run a gateway until SIGTERM or SIGINT; a second one ends it at once, with a `Failure`.

    Raises `BadSettings`, `KindError`, `ConfigError` and `Foreign`, each one line that says what to do, and `PoolLost`
    where only a new process gets a Ray again.
    """
    with anyio.open_signal_receiver(*SIGNALS) as signals, anyio.CancelScope() as everything:
        stop = _Stop(everything)
        async with anyio.create_task_group() as group:
            group.start_soon(_heed, signals, stop)
            await _serve(settings, stop)
            group.cancel_scope.cancel()
    if stop.again:
        raise Failure(f"{stop.again}: left at once; what was in hand comes back with the end of its lease")


async def _serve(settings: Settings, stop: _Stop) -> None:
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
        stop.gateway = gateway
        async with anyio.create_task_group() as group:
            group.start_soon(_settle_in, pool, next(iter(settings.profiles)))
            await gateway.run(_say_serving)
            group.cancel_scope.cancel()


async def _settle_in(pool: Pool, profile: str) -> None:
    """What is to be put right once Ray is there."""
    await pool.wait_free(profile, exclusive=False)
    for number in SIGNALS:
        # Ray's own handler, which prints a stack, is put over Python's when Ray starts.
        signal.signal(number, signal.getsignal(number))
        signal.siginterrupt(number, False)
    # What is here now stays, and jobs leave few cycles behind: to look for those may be rare.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


class _Stop:
    """What a signal does: a first one drains the gateway, or ends what waits for NATS; a second one ends everything."""

    def __init__(self, everything: anyio.CancelScope) -> None:
        self.gateway: Gateway | None = None
        self.again = ""
        """The second signal, where it came."""
        self._everything = everything

    def heard(self, name: str) -> None:
        if self.gateway is None:
            log.info("%s: leaving, nothing was begun yet", name)
            self._everything.cancel()
        elif not self.gateway.draining:
            self.gateway.drain(name)
        elif not self.again:
            self.again = f"{name} while draining"
            self.gateway.hurry()
            self._everything.cancel()


async def _heed(signals: AsyncIterator[signal.Signals], stop: _Stop) -> None:
    async for number in signals:
        stop.heard(signal.Signals(number).name)


def leave_behind() -> None:
    """End the process now if a Ray is still starting in a thread: its processes end with it, and it cannot be hurried.

    Python would wait for the thread, and so for seconds.
    """
    if starting_alone():
        kill_below(os.getpid())
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exits.OK)


def _say_serving() -> None:
    log.info("serving")
    descriptor = os.environ.get(READY_FD)
    if descriptor is not None:
        os.write(int(descriptor), b"serving\n")
        os.close(int(descriptor))


def _pool(settings: Settings, kinds: Mapping[str, Kind]) -> Pool:
    profiles = terms.profiles(settings)
    host = HostSpec(factory="workers.hosting:build", config=msgspec.json.encode(_host_config(settings)))
    if settings.ray.address == "none":
        from infra.pool.process import ProcessPool

        return ProcessPool(profiles, host, gateway=settings.gateway.name)
    from infra.pool.ray.address import parse_address
    from infra.pool.ray.pool import RayPool

    return RayPool(profiles, host, gateway=settings.gateway.name, address=parse_address(settings.ray.address))


def _host_config(settings: Settings) -> HostConfig:
    nats, workspaces = settings.nats, settings.workspaces
    # Jobs do not run where the gateway was started.
    credentials = None if nats.credentials is None else os.path.abspath(nats.credentials)
    return HostConfig(
        modules=settings.kinds.modules,
        kinds=terms.configs(settings),
        storage=StorageConfig(
            root=settings.storage.root,
            inputs=workspaces.inputs,
            nats=NatsAccess(url=nats.url, credentials=credentials, inbox_prefix=nats.inbox_prefix),
        ),
        workspaces=WorkspacesConfig(base=workspaces.base, keep_failed=workspaces.keep_failed),
    )


def _versions(settings: Settings, bus: NatsBus) -> Versions:
    ray = None
    if settings.ray.address != "none":
        ray = importlib.metadata.version("ray")
    return Versions(
        jetray=provenance.version(), python=platform.python_version(), ray=ray, nats_server=bus.server_version
    )
