"""The Ray underneath the pool: embedded here, joined, or one that this process has anyway.

Its `start` and `stop` block, and run in a thread of their own (`own_thread`). That thread not being the main one, Ray
leaves Python's signal handlers alone; underneath them it puts one of its own, which prints a stack.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from infra.pool import provenance
from infra.pool.base import ConfigError, PoolLost, Profile
from infra.pool.ray.address import Address
from infra.pool.ray.tree import kill_below
from infra.pool.ray.workplace import Workplace

__all__ = [
    "BorrowedRay",
    "Cluster",
    "EmbeddedRay",
    "JoinedRay",
    "check_room",
    "prepare_environment",
]

_log = logging.getLogger("jetray.pool")

OBJECT_STORE_BYTES: Final = 192 * 1024 * 1024
"""Calls and outcomes are small, and artifacts do not go through Ray."""
CONFIG_STATUS: Final = 78
"""The raylet child's exit status for a setting that is wrong, as the launcher's own."""
RAYLET_STOP_S: Final = 10.0
STILL_WAITING_S: Final = 10.0
KNOCK_S: Final = 5.0

_ENVIRONMENT: Final[Mapping[str, str]] = {
    # Under `uv run` Ray would start every worker through uv again.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # A runtime_env that failed once is refused for so long without another try: ten minutes otherwise.
    "BAD_RUNTIME_ENV_CACHE_TTL_SECONDS": "30",
    # Ray turns this on by itself for local clusters alone, and says so each time.
    "RAY_AUTH_MODE": "token",
}


def prepare_environment() -> None:
    """Set what Ray reads while it is imported; what an operator has set stays."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


class Cluster(Protocol):
    """A Ray to be had. `start` and `stop` block, and run in the same thread; `stop` follows whatever `start` did."""

    def start(self) -> None:
        """Connect this process. Raises `ConfigError`."""
        ...

    def abort(self) -> bool:
        """From another thread: `start` need not go on waiting. False where it does, and ends with the process alone."""
        ...

    def loss(self) -> str | None:
        """How this process lost its Ray for good, in words; None while it has it. From another thread."""
        ...

    def stop(self) -> None:
        """Disconnect it, and leave nothing behind."""
        ...


def check_room(profiles: Iterable[Profile], resources: Mapping[str, float]) -> None:
    """Raise `ConfigError` where an embedded Ray cannot hold all actors: it would wait for room for ever.

    There are as many CPUs as we say that there are. Of the rest there is what there is.
    """
    for setting, resource in (("gpus", "GPU"), ("memory", "memory")):
        wanted = {p.name: (p.actors + p.spares) * getattr(p, setting) for p in profiles if getattr(p, setting)}
        total, there = sum(wanted.values()), resources.get(resource, 0)
        if total > there:
            raise ConfigError(
                f"profiles {', '.join(wanted)}: together their actors want {setting} = {total:g}, and this host has "
                f"{there:g}: lower {setting} or actors, or set RAY_ADDRESS to a larger cluster"
            )


class BorrowedRay:
    """The Ray that this process is connected to already; whoever did that ends it."""

    def start(self) -> None:
        """Nothing to do."""

    def abort(self) -> bool:
        """Nothing to do."""
        return True

    def loss(self) -> str | None:
        """It is not ours to watch."""
        return None

    def stop(self) -> None:
        """Nothing to do."""


class EmbeddedRay:
    """A Ray of our own on this host, with room for `profiles`."""

    def __init__(self, profiles: Iterable[Profile]) -> None:
        self._profiles = list(profiles)
        self._workplace: Workplace | None = None
        self._watched: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Takes seconds."""
        ray = _prepared()
        self._workplace = Workplace()
        _init(
            ray,
            address="local",
            num_cpus=max(os.cpu_count() or 1, math.ceil(sum((p.actors + p.spares) * p.cpus for p in self._profiles))),
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            _temp_dir=str(self._workplace.path),
        )
        check_room(self._profiles, ray.cluster_resources())
        # A driver goes on without its raylet for ever, and without its head for a minute.
        processes = ray._private.worker._global_node.all_processes
        self._watched = {name: processes[name][0].process for name in ("gcs_server", "raylet")}

    def abort(self) -> bool:
        """It takes seconds, but Linux ends its processes with the thread that starts them."""
        return sys.platform != "linux"

    def loss(self) -> str | None:
        """Ray runs on two processes of ours. Without either the rest is killed: nobody else would."""
        for name, process in self._watched.items():
            if (status := process.poll()) is not None:
                kill_below(self._watched["raylet"].pid)
                return f"Ray's {name} {_ended(status)}"
        return None

    def stop(self) -> None:
        """About a quarter of a second."""
        import ray

        if ray.is_initialized():
            # The autoscaler's monitor does not heed SIGTERM once its cluster is gone: a second of waiting for nothing.
            node: Any = ray._private.worker._global_node
            node.kill_monitor(check_alive=False)
        ray.shutdown(wait_for_processes=True)
        if self._workplace is not None:
            self._workplace.remove()


class JoinedRay:
    """A cluster elsewhere, through a raylet of our own without CPUs. Waits for a head that is not there yet."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._aborted = threading.Event()
        self._workplace: Workplace | None = None
        self._raylet: subprocess.Popen[bytes] | None = None
        self._head_away = False

    def start(self) -> None:
        """Takes seconds, or as long as the head takes to come up."""
        ray = _prepared()
        self._workplace = Workplace()
        directory = self._workplace.path
        with (directory / "raylet.log").open("wb") as log:
            self._raylet = subprocess.Popen(
                [sys.executable, "-P", "-m", "infra.pool.ray.raylet", str(self._address), str(directory)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(provenance.ROOT), *filter(None, sys.path)])},
                start_new_session=True,
            )
        self._await_raylet(self._raylet, directory)
        if not self._aborted.is_set():
            # Of several raylets on this host, the directory picks ours.
            _init(ray, address=str(self._address), _temp_dir=str(directory))

    def abort(self) -> bool:
        """Wait no longer for the head."""
        self._aborted.set()
        return True

    def loss(self) -> str | None:
        """The raylet ends when its head is gone for too long; Ray may end this whole process first, without a word."""
        status = None if self._raylet is None else self._raylet.poll()
        if status is not None:
            return f"the raylet that joined the Ray cluster at {self._address} {_ended(status)}"
        away = not self._address.answers(KNOCK_S)
        if away != self._head_away:
            self._head_away = away
            state = "cannot be reached; without it for a minute this gateway ends" if away else "is there again"
            _log.warning("the Ray head at %s %s", self._address, state)
        return None

    def stop(self) -> None:
        """Leave the cluster, and take our raylet along."""
        import ray

        ray.shutdown()
        if self._raylet is not None:
            assert self._raylet.stdin is not None
            self._raylet.stdin.close()
            try:
                self._raylet.wait(RAYLET_STOP_S)
            except subprocess.TimeoutExpired:
                kill_below(self._raylet.pid)
                self._raylet.kill()
                self._raylet.wait()
        if self._workplace is not None:
            self._workplace.remove()

    def _await_raylet(self, raylet: subprocess.Popen[bytes], directory: Path) -> None:
        said = time.monotonic()
        while not self._aborted.wait(0.05) and not any(directory.glob("session_*/sockets/raylet*")):
            if (status := raylet.poll()) is not None:
                lines = (directory / "raylet.log").read_text(errors="replace").strip().splitlines()
                if status == CONFIG_STATUS:
                    raise ConfigError(lines[-1])
                raise PoolLost(f"the raylet for {self._address} ended with status {status}: " + " / ".join(lines[-5:]))
            if time.monotonic() - said > STILL_WAITING_S:
                said = time.monotonic()
                _log.warning("still waiting for the Ray head at %s", self._address)


def _init(ray: Any, **options: Any) -> None:
    """`ray.init`. Raises `PoolLost`, for Ray says no more than `Exception` where a process of its own dies."""
    try:
        ray.init(log_to_driver=False, configure_logging=False, **options)
    except Exception as error:
        raise PoolLost(f"Ray did not start: {' '.join(str(error).split()) or repr(error)}") from error


def _ended(status: int) -> str:
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


def _prepared() -> Any:
    prepare_environment()
    import ray

    # Whoever imported Ray before us had it read another environment.
    ray._raylet.Config.initialize("")  # type: ignore[attr-defined]
    # It warns that it left our SIGTERM handler alone, which is what we want.
    logging.getLogger("ray._private.worker").setLevel(logging.ERROR)
    # What the raylet reports goes to standard output, whatever `log_to_driver` says; but that is not ours to fill.
    ray._private.worker.print_to_stdstream = _log_report
    return ray


def _log_report(data: Mapping[str, Any], ignore_prefix: bool) -> None:
    for line in data["lines"]:
        _log.warning("ray: %s", line)
