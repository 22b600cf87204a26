"""Kinds that benchmarks run."""

from __future__ import annotations

import asyncio
import time

import msgspec

from tests.benchmarks.jobs import answer
from workers import JobContext, job, workflow

__all__ = ["Digest", "Echo", "Text", "digest", "echo", "nap", "paced"]

NAP_S = 0.1
PACED_S = 0.032


class Echo(msgspec.Struct, frozen=True):
    """Comes back as it went."""

    body: str


class Text(msgspec.Struct, frozen=True):
    """The payload that every contender gets."""

    text: str


class Digest(msgspec.Struct, frozen=True):
    """The answer that every contender owes."""

    sha256: str


@job("echo")
def echo(value: Echo) -> Echo:
    """Return the input."""
    return value


@job("digest")
def digest(value: Text) -> Digest:
    """A short job."""
    return Digest(answer(value.text))


@job("nap")
async def nap(ctx: JobContext, value: Text) -> Digest:
    """A job that waits for something else for 100 ms; it takes a context, so that it never travels in batches."""
    await asyncio.sleep(NAP_S)
    return Digest(answer(value.text))


@job("paced")
async def paced(ctx: JobContext, value: Text) -> Digest:
    """A job of 32 ms: 16 slots do 500 of them in a second."""
    await asyncio.sleep(PACED_S)
    return Digest(answer(value.text))


@workflow("benchmarks.wait")
def wait(parameters: dict[str, float]) -> dict[str, float]:
    """Waits so many `seconds`, without work."""
    time.sleep(parameters["seconds"])
    return {"score": parameters["seconds"]}
