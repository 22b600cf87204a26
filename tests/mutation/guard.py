"""What a guard is, and how it is taken away."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Edit", "Guard"]


@dataclass(frozen=True, slots=True)
class Edit:
    """Text that stands exactly once in a file, and what takes its place."""

    file: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Guard:
    """Something that the code does for the protocol's sake alone."""

    name: str
    protects: str
    """The rule, in one line."""
    edits: tuple[Edit, ...]
    seed: int
    """A history that noticed when this was written down: it is tried first."""
