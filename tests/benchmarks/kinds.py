"""Kinds that benchmarks run."""

from __future__ import annotations

import msgspec

from workers import job

__all__ = ["Echo", "echo"]


class Echo(msgspec.Struct, frozen=True):
    """Comes back as it went."""

    body: str


@job("echo")
def echo(value: Echo) -> Echo:
    """Return the input."""
    return value
