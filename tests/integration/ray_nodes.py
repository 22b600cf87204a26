"""A Ray cluster of several nodes on this host, each of which a test may kill."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

from infra.pool.ray.tree import kill_below
from infra.pool.ray.workplace import Workplace
from tests.launcher.processes import ROOT

__all__ = ["ENVIRONMENT", "Nodes"]

ENVIRONMENT: Final = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "7" * 64,
    # A minute otherwise.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "5",
}


class Nodes:
    """A head without CPUs, and nodes that join it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, tuple[subprocess.Popen[bytes], Workplace]] = {}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"

    def head(self) -> None:
        """Start the head."""
        self._start("head", "--head", f"--port={self.address.rpartition(':')[2]}", "--include-dashboard=false", cpus=0)

    def node(self, name: str, *, cpus: int) -> None:
        """Start a node; it joins when it can."""
        self._start(name, f"--address={self.address}", cpus=cpus)

    def kill(self, name: str) -> None:
        """End a node as a power cut would."""
        process, workplace = self._running.pop(name)
        process.send_signal(signal.SIGSTOP)
        kill_below(process.pid)
        process.kill()
        process.wait()
        workplace.remove()

    def close(self) -> None:
        """End them all."""
        for name in [*self._running]:
            self.kill(name)

    def _start(self, name: str, *arguments: str, cpus: int) -> None:
        workplace = Workplace()
        command = [
            *arguments, "--block", f"--num-cpus={cpus}", "--object-store-memory=80000000",
            f"--temp-dir={workplace.path}", "--dashboard-agent-listen-port=0",
        ]  # fmt: skip
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        with (self._folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "ray.scripts.scripts", "start", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **ENVIRONMENT, "PYTHONPATH": path},
                cwd=self._folder,
            )
        self._running[name] = (process, workplace)
