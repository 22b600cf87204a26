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
import sys
import threading
import time
from collections.abc import Mapping

from infra.pool.base import ConfigError
from infra.pool.ray.address import Address, parse_address
from infra.pool.ray.cluster import CONFIG_STATUS, OBJECT_STORE_BYTES, kill_below, prepare_environment

__all__ = ["check_versions", "main"]

CONNECT_S = 5.0
QUERY_S = 30.0
STOP_S = 5.0
_CHILD_SUBREAPER = 36


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
    from ray.scripts.scripts import start

    _inherit_orphans()
    try:
        start.main(
            [
                f"--address={address}",
                "--block",
                "--num-cpus=0",
                "--num-gpus=0",
                f"--object-store-memory={OBJECT_STORE_BYTES}",
                f"--temp-dir={directory}",
                "--dashboard-agent-listen-port=0",
            ]
        )
    finally:
        # A raylet that died leaves its agents behind, and without a head they look for it for minutes.
        kill_below(os.getpid())


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
    os._exit(1)


def _inherit_orphans() -> None:
    """Whoever loses its parent below here becomes a child of this process, instead of nobody's. Linux alone."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_CHILD_SUBREAPER, 1, 0, 0, 0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
