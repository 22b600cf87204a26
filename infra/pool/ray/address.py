"""What `RAY_ADDRESS` may say, and whether anybody is there."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass

from infra.pool.base import ConfigError

__all__ = ["Address", "parse_address"]

_HOST_AND_PORT = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?):(?P<port>[0-9]{1,5})"
)

_CHOICES = (
    "say local (or nothing) for a Ray of its own, HOST:PORT for a cluster's head, as in head:6379, or none for no Ray"
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where Ray is: here, embedded, or at the head of a cluster."""

    host: str = ""
    """Empty for an embedded Ray."""
    port: int = 0

    def __str__(self) -> str:
        return f"{self.host}:{self.port}" if self.host else "local"

    def answers(self, within_s: float) -> bool:
        """Whether somebody listens there."""
        try:
            socket.create_connection((self.host.strip("[]"), self.port), within_s).close()
        except OSError:
            return False
        return True

    @property
    def embedded(self) -> bool:
        """Whether Ray is to be started here."""
        return not self.host


def parse_address(value: str | None) -> Address:
    """`RAY_ADDRESS` as it stands in the environment. Raises `ConfigError`; `none` is for the caller to have seen."""
    text = (value or "").strip()
    if text in ("", "local"):
        return Address()
    if text.startswith("ray://"):
        raise ConfigError(
            f"RAY_ADDRESS={text}: Ray Client (ray://) is for interactive use and cannot carry a pool; "
            "name the head's own port instead, 6379 unless changed: RAY_ADDRESS=HOST:6379"
        )
    match = _HOST_AND_PORT.fullmatch(text)
    if match is None or not 0 < int(match["port"]) < 65536:
        raise ConfigError(f"RAY_ADDRESS={text}: {_CHOICES}")
    return Address(match["host"], int(match["port"]))
