"""A joined cluster's raylet on this host: `python -P -m infra.pool.ray.raylet HOST:PORT DIRECTORY`.

It has no CPUs: a driver needs a raylet beside it, and the jobs run elsewhere. It is a process of its own so that a head
that is not one cannot take the gateway down (Ray's client ends its process), and it ends when its standard input does,
that is, with the gateway.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping

from infra.pool.base import ConfigError
from infra.pool.ray.address import Address, parse_address
from infra.pool.ray.cluster import CONFIG_STATUS, OBJECT_STORE_BYTES, prepare_environment
from infra.pool.ray.tree import kill_below

__all__ = ["check_versions", "main"]

CONNECT_S = 5.0
QUERY_S = 30.0
STOP_S = 5.0
_PARENT_DEATH_SIGNAL = 1
_CHILD_SUBREAPER = 36
"""Whoever loses its parent below a process becomes its child, instead of nobody's."""


def main(head: str, directory: str) -> None:
    """Wait for the head, see whether we fit it, and be a raylet until the gateway is gone."""
    threading.Thread(target=_end_with_stdin, name="gateway", daemon=True).start()
    prepare_environment()
    address = parse_address(head)
    _await_head(address)
    try:
        check_versions(
            address, _versions(address), {"ray_version": _ray(), "python_version": platform.python_version()}
        )
    except ConfigError as error:
        print(error, flush=True)
        sys.exit(CONFIG_STATUS)
    sys.exit(_run_raylet(address, directory))


def _run_raylet(address: Address, directory: str) -> int:
    """`ray start`, to its end. It is no part of this process, since it aborts when a process of its own dies."""
    _prctl(_CHILD_SUBREAPER, 1)
    raylet = subprocess.Popen(
        [
            *(sys.executable, "-P", "-m", "ray.scripts.scripts", "start"),
            f"--address={address}",
            "--block",
            "--num-cpus=0",
            "--num-gpus=0",
            f"--object-store-memory={OBJECT_STORE_BYTES}",
            f"--temp-dir={directory}",
            "--dashboard-agent-listen-port=0",
        ],
        stdin=subprocess.DEVNULL,
        preexec_fn=_die_with_parent,  # noqa: PLW1509  the one other thread reads a pipe, and holds no lock
    )
    signal.signal(signal.SIGTERM, lambda number, frame: raylet.terminate())
    status = raylet.wait()
    # A raylet that died leaves its agents behind, and without a head they look for it for minutes.
    kill_below(os.getpid())
    return status if status > 0 else 128 - status


def check_versions(address: Address, theirs: Mapping[str, str], ours: Mapping[str, str]) -> None:
    """Raise `ConfigError` where the cluster's Ray or Python differs. Ray must match exactly, Python to the patch."""
    level = os.environ.get("RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL", "patch")
    parts = 2 if level == "minor" else 3
    if theirs["ray_version"] == ours["ray_version"] and _parts(theirs, parts) == _parts(ours, parts):
        return
    relaxed = "" if parts == 2 else " (RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL=minor lets Python's patch version differ)"
    raise ConfigError(
        f"the Ray cluster at {address} runs Ray {theirs['ray_version']} on Python {theirs['python_version']}, and this "
        f"gateway Ray {ours['ray_version']} on Python {ours['python_version']}: they must be the same{relaxed}"
    )


def _parts(versions: Mapping[str, str], count: int) -> list[str]:
    return versions["python_version"].split(".")[:count]


def _ray() -> str:
    import ray

    return ray.__version__


def _await_head(address: Address) -> None:
    while not address.answers(CONNECT_S):
        time.sleep(0.5)


def _versions(address: Address) -> Mapping[str, str]:
    from ray._common.usage import usage_constants
    from ray._private import ray_constants
    from ray._private.authentication.authentication_token_setup import ensure_token_if_auth_enabled
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.exceptions import AuthenticationError, RpcError

    try:
        # Without a token the client would not raise but end the process.
        ensure_token_if_auth_enabled(create_token_if_missing=False)
        data = GcsClient(address=str(address)).internal_kv_get(
            usage_constants.CLUSTER_METADATA_KEY, namespace=ray_constants.KV_NAMESPACE_CLUSTER, timeout=QUERY_S
        )
    except AuthenticationError as error:
        raise ConfigError(
            f"the Ray cluster at {address} wants its token and does not get it: set RAY_AUTH_TOKEN, or name the file "
            "that holds it in RAY_AUTH_TOKEN_PATH; for a cluster without tokens set RAY_AUTH_MODE=disabled"
        ) from error
    except RpcError as error:
        raise ConfigError(
            f"RAY_ADDRESS={address}: something listens there, but it does not answer as a Ray head does: "
            "name the head's own port, 6379 unless changed"
        ) from error
    versions: dict[str, str] = json.loads(data)
    return versions


def _end_with_stdin() -> None:
    while os.read(sys.stdin.fileno(), 1024):  # not through sys.stdin, whose lock would be held when Python ends
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_S)
    # Still here: Ray waits for a head that is gone.
    kill_below(os.getpid())


def _die_with_parent() -> None:
    """In a child, before it starts."""
    _prctl(_PARENT_DEATH_SIGNAL, signal.SIGTERM)


def _prctl(option: int, value: int) -> None:
    """Linux alone. Elsewhere what Ray leaves behind is left."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
