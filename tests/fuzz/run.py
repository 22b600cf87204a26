"""The loop, in child processes: what one is about to decode stands in a file, and outlives it.

A decoder that ends the process, or never comes back, is found by its last input; one that raises what it must not, or
breaks what must hold, says so itself.
"""

from __future__ import annotations

import mmap
import multiprocessing
import signal
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from random import Random
from typing import Any, Final

from msgspec import Struct

from tests.fuzz.check import Decoder
from tests.fuzz.mutate import Mutator

__all__ = ["Failure", "Report", "fuzz"]

BUSY_S: Final = 10.0
"""A decoder that computes for so long over one input will not come back."""
PAGE: Final = 1 << 20
_NOTE: Final = struct.Struct("!QII")
"""How many inputs were taken before this one; which decoder; how long the input is."""
_MOST_FAILURES: Final = 3
"""Of one decoder and one error."""


class Failure(Struct, frozen=True):
    """What a decoder did that it must not, and over which input."""

    decoder: str
    what: str
    data: bytes


class Report(Struct):
    """What came of a run."""

    inputs: int = 0
    seconds: float = 0.0
    decoded: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    failures: list[Failure] = []

    def add(self, other: Report) -> None:
        """Take another process's into this one."""
        self.inputs += other.inputs
        self.decoded += other.decoded
        self.refused += other.refused
        self.failures += other.failures


Decoders = Callable[[], Sequence[Decoder]]
"""Builds them in the process that runs them."""


def fuzz(
    decoders: Decoders,
    *,
    inputs: int,
    seed: int,
    processes: int,
    tell: Callable[[str], None] = lambda line: None,
    busy_s: float = BUSY_S,
) -> Report:
    """Feed `inputs` broken inputs to `decoders`, which must be a function of a module."""
    began = time.perf_counter()
    report = Report(decoded=Counter(), refused=Counter(), failures=[])
    with tempfile.TemporaryDirectory(prefix="jetray-fuzz-") as folder:
        shares = [inputs // processes + (number < inputs % processes) for number in range(processes)]
        children = [
            _Child(decoders, Path(folder) / str(number), f"{seed}/{number}", share, busy_s)
            for number, share in enumerate(shares)
        ]
        _watch(children, report, inputs, began, tell)
    report.seconds = time.perf_counter() - began
    return report


class _Child:
    """A process, and the note that it leaves of each input before it decodes it."""

    def __init__(self, decoders: Decoders, note: Path, seed: str, inputs: int, busy_s: float) -> None:
        note.write_bytes(bytes(PAGE))
        self.names: list[str] | None = None
        self.note = note
        context = multiprocessing.get_context("spawn")
        self.results, theirs = context.Pipe(duplex=False)
        self.process = context.Process(target=_feed, args=(decoders, str(note), seed, inputs, busy_s, theirs))
        self.process.start()
        theirs.close()

    def last(self) -> tuple[int, int, bytes]:
        raw = self.note.read_bytes()
        taken, decoder, size = _NOTE.unpack_from(raw)
        return taken, decoder, raw[_NOTE.size : _NOTE.size + size]

    def failure(self, what: str) -> Failure:
        _, decoder, data = self.last()
        return Failure(self.names[decoder] if self.names else "?", what, data)


def _watch(children: list[_Child], report: Report, inputs: int, began: float, tell: Callable[[str], None]) -> None:
    open_ = {child.results: child for child in children}
    while open_:
        for ready in wait(list(open_), timeout=1.0):
            assert isinstance(ready, Connection)
            _hear(open_, ready, report)
        taken = report.inputs + sum(child.last()[0] for child in open_.values())
        tell(f"{taken:,} of {inputs:,} inputs, {taken / (time.perf_counter() - began):,.0f}/s")


def _hear(open_: dict[Connection, _Child], ready: Connection, report: Report) -> None:
    child = open_[ready]
    try:
        said: Any = ready.recv()
    except EOFError:
        child.process.join()
        report.failures.append(child.failure(_how_it_ended(child.process.exitcode)))
        report.inputs += child.last()[0]
        del open_[ready]
        return
    if isinstance(said, list):
        child.names = said
        return
    child.process.join()
    report.add(said)
    del open_[ready]


def _how_it_ended(status: int | None) -> str:
    return "does not come back" if status == -signal.SIGVTALRM else f"ends the process (status {status})"


def _feed(build: Decoders, note: str, seed: str, inputs: int, busy_s: float, results: Connection) -> None:
    """In the child."""
    decoders = build()
    results.send([decoder.name for decoder in decoders])
    mutator = Mutator(Random(seed))
    report = Report(decoded=Counter(), refused=Counter(), failures=[])
    seen: Counter[tuple[str, str]] = Counter()
    with open(note, "r+b") as file, mmap.mmap(file.fileno(), PAGE) as page:
        for taken in range(inputs):
            number = taken % len(decoders)
            decoder = decoders[number]
            data = mutator.broken(decoder.samples)
            page[_NOTE.size : _NOTE.size + len(data)] = data
            _NOTE.pack_into(page, 0, taken, number, len(data))
            # Its own computing time, which others on the machine do not shorten; the signal ends the process.
            signal.setitimer(signal.ITIMER_VIRTUAL, busy_s)
            try:
                (report.decoded if decoder.feed(data) else report.refused)[decoder.name] += 1
            except Exception as error:  # noqa: BLE001 - whatever a decoder raises beyond what it may is what is looked for
                what = f"{type(error).__name__}: {error}"
                key = decoder.name, what[:40]
                seen[key] += 1
                if seen[key] <= _MOST_FAILURES:
                    report.failures.append(Failure(decoder.name, what[:300], data))
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    report.inputs = inputs
    results.send(report)
    results.close()
