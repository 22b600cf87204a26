"""`jetray up`: nats-server and the gateway, kept alive until a signal."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import anyio

from workers.launcher.exits import Misconfigured
from workers.launcher.stack import Running, Stack, gateway_command
from workers.launcher.supervise import Pauses, Signals
from workers.settings import Settings

__all__ = ["held", "own_port", "up"]

STATE_DIR: Final = Path(".jetray")
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


async def up(settings: Settings, *, config: Path | None, nats_port: int | None, state_dir: Path | None) -> None:
    """Serve until SIGTERM or SIGINT. Raises `Misconfigured`, `ServerMissing`."""
    port = own_port(settings.nats.url, nats_port)
    signals = Signals()
    with held(state_dir or STATE_DIR) as state:
        stack = Stack(
            state_dir=state,
            nats_port=port,
            command=gateway_command(config),
            environment=os.environ,
            grace_s=settings.gateway.grace_s,
            # Standard output carries the ready line alone.
            output=sys.stderr.fileno(),
            say=_say,
            pauses=Pauses(),
        )
        async with anyio.create_task_group() as group:
            group.start_soon(signals.watch)

            async def body(running: Running) -> None:
                await running.serving.wait()
                _warn_of_offline(settings)
                print(f"ready {running.url}", flush=True)
                await signals.stop.wait()

            await stack.run(signals, body)
            group.cancel_scope.cancel()


def own_port(url: str, given: int | None) -> int:
    """The port of the server to start: the one given, else that of the settings' URL if it is this machine's.

    Raises `Misconfigured` where the settings name a server elsewhere: to start another beside it, and to serve that
    other, is hardly what was meant.
    """
    if given is not None:
        return given
    parts = urlsplit(url if "://" in url else f"nats://{url}")
    if "," in url or parts.hostname not in _LOOPBACK:
        raise Misconfigured(
            f"the settings, or NATS_URL, name the server {url}, and `jetray up` starts one of its own: "
            f"run `jetray worker` to serve that one, or give --nats-port to start one here all the same"
        )
    return 4222 if parts.port is None else parts.port


@contextmanager
def held(state_dir: Path) -> Iterator[Path]:
    """The directory, made if need be and locked: two servers in one store would spoil it."""
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        # A directory in a checkout that is nobody's to commit.
        (state_dir / ".gitignore").write_text("*\n", encoding="utf-8")
        lock = (state_dir / "lock").open("w", encoding="utf-8")
    except OSError as error:
        raise Misconfigured(f"the state directory {state_dir} cannot be used: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Misconfigured(f"another `jetray up` uses {state_dir}; name another one with --state-dir") from error
        yield state_dir.resolve()


def _warn_of_offline(settings: Settings) -> None:
    sections = settings.offline_councils()
    if sections:
        _say(
            f"warning: {', '.join(sections)}: provider `offline` is no language model, and its proposals follow fixed "
            f"rules; set provider and model there for real ones (`jetray config --init` shows how)"
        )


def _say(line: str) -> None:
    print(f"jetray up: {line}", file=sys.stderr, flush=True)
