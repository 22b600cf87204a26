"""The job that every contender does: 140 bytes of text in, their sha256 out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

__all__ = ["PAYLOAD_BYTES", "Job", "answer", "job", "jobs"]

PAYLOAD_BYTES: Final = 140


class Job(Struct, frozen=True):
    """One job, and so one result that is owed."""

    id: str
    text: str
    """140 bytes of ASCII, of no other job."""

    @property
    def answer(self) -> str:
        """What the job comes to."""
        return answer(self.text)


def job(name: str) -> Job:
    """The job of that id."""
    return Job(name, f"{name} ".ljust(PAYLOAD_BYTES, "x"))


def jobs(prefix: str, count: int, first: int = 0) -> Iterator[Job]:
    """So many jobs, each with a text of its own."""
    for number in range(first, first + count):
        yield job(f"{prefix}-{number}")


def answer(text: str) -> str:
    """The sha256 of a text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()
