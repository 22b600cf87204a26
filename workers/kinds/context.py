"""`JobContext`: what a running job may ask and say."""

from __future__ import annotations

import logging
import operator
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from contracts.calls import Call, Emitted, Frame, Reported
from contracts.codec import encode
from contracts.tokens import token_or_raise

__all__ = ["JobContext"]

_MOST: Final = 2**63 - 1
"""The greatest number that every reader of an event can hold."""


class JobContext:
    """Handed to a kind that asks for it, for one attempt at one job.

    Its methods may be called from the job's own task or thread, and return at once.
    """

    def __init__(self, call: Call, send: Callable[[Frame], None]) -> None:
        self._call = call
        self._send = send
        self._cancelled = False
        self._workspace: Path | None = None
        self._ends = time.monotonic() + call.timeout_s
        self.log = logging.getLogger(f"jetray.job.{call.kind}")

    def __repr__(self) -> str:
        return f"JobContext({self._call.job}, run {self.run}, attempt {self.attempt})"

    @property
    def kind(self) -> str:
        """The job's kind."""
        return self._call.kind

    @property
    def job_id(self) -> str:
        """The job's id, a token."""
        return self._call.job_id

    @property
    def run(self) -> int:
        """1, and one more for each replay."""
        return self._call.run

    @property
    def attempt(self) -> int:
        """1, 2, … within the run."""
        return self._call.attempt

    @property
    def correlation_id(self) -> str:
        """The publisher's, else the root job's id."""
        return self._call.correlation_id

    @property
    def traceparent(self) -> str | None:
        """W3C trace context of the job."""
        return self._call.traceparent

    @property
    def deadline(self) -> float:
        """When this attempt ends, come what may: seconds since the epoch, by the server's clock.

        That is the attempt's own deadline or the job's, whichever is nearer.
        """
        return self._call.deadline

    @property
    def remaining_s(self) -> float:
        """Seconds until the deadline, by this machine's monotonic clock; never below 0."""
        return max(0.0, self._ends - time.monotonic())

    @property
    def cancelled(self) -> bool:
        """True once the job should stop: a sync kind that runs long looks here, an async one is cancelled."""
        return self._cancelled or self.remaining_s == 0.0

    def progress(
        self,
        *,
        done: int | None = None,
        total: int | None = None,
        message: str | None = None,
        step: str | None = None,
        eta_ms: int | None = None,
        counts: dict[str, int] | None = None,
    ) -> None:
        """Report progress: an event `progress` with these fields. Of reports in quick succession the last counts.

        Raises `ValueError` for a number that is not whole, or below 0; `TypeError` for a text that is none.
        """
        report = Reported(
            done=_whole("done", done),
            total=_whole("total", total),
            message=_text("message", message),
            step=_text("step", step),
            eta_ms=_whole("eta_ms", eta_ms),
            counts=counts if counts is None else _counts(counts),
        )
        self._send(report)

    def emit(self, event: str, body: Any) -> None:
        """Say something outside the log, on `agent.<event>.<job_id>`; `event` is two tokens, as `response.progress`."""
        topic, _, name = event.partition(".")
        token_or_raise("first token of an emitted event", topic)
        token_or_raise("second token of an emitted event", name)
        self._send(Emitted(topic=topic, name=name, body=encode(body)))

    @property
    def workspace(self) -> Path:
        """A fresh directory of this attempt's own, made when first asked for and removed after the attempt."""
        if self._workspace is None:
            self._workspace = Path(tempfile.mkdtemp(prefix="jetray-"))
        return self._workspace

    @property
    def stopped(self) -> bool:
        """True once somebody asked the job to stop, whatever its deadline. For hosts."""
        return self._cancelled

    def cancel(self) -> None:
        """Set `cancelled`. For hosts."""
        self._cancelled = True

    def close(self) -> None:
        """Remove the workspace. For hosts."""
        if self._workspace is not None:
            shutil.rmtree(self._workspace, ignore_errors=True)


def _whole(name: str, value: int | None) -> int | None:
    """The number as an `int`: other libraries have whole numbers of their own."""
    if value is None:
        return None
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if not 0 <= number <= _MOST:
        raise ValueError(f"progress: {name} must be a whole number, 0 or more, not {value!r}")
    return number


def _text(name: str, value: str | None) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"progress: {name} must be a text, not {value!r}")
    return value


def _counts(counts: Any) -> dict[str, int]:
    if not isinstance(counts, Mapping) or not all(isinstance(key, str) for key in counts):
        raise TypeError(f"progress: counts must be a dict of names and numbers, not {counts!r}")
    return {key: _whole(f"counts[{key!r}]", value) or 0 for key, value in counts.items()}
