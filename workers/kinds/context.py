"""`JobContext`: what a running job may ask and say."""

from __future__ import annotations

import logging
import operator
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from contracts.calls import Call, Emitted, Frame, Reported
from contracts.codec import encode
from contracts.tokens import token_or_raise
from workers.kinds.below import parts
from workers.kinds.outcomes import Fail
from workers.kinds.staging import INPUT, stage
from workers.kinds.storage import NoStorage, Storage, StorageError
from workers.kinds.survey import Selection
from workers.kinds.tracking import Commit, track, untracked
from workers.kinds.workspaces import Workspace, Workspaces

__all__ = ["JobContext", "Places"]

_MOST: Final = 2**63 - 1
"""The greatest number that every reader of an event can hold."""


@dataclass(frozen=True)
class Places:
    """Where files of jobs are, on this machine and off it. Nothing is made or connected before a job asks."""

    workspaces: Workspaces = field(default_factory=Workspaces)
    storage: Storage = field(default_factory=NoStorage)


class JobContext:
    """Handed to a kind that asks for it, for one attempt at one job.

    Its methods may be called from the job's own task or any thread. What they say is heard until the attempt is over;
    of a job that shares a call (see `company` in `Kind`) nothing is. From a thread they wait for the loop of an async
    kind, which therefore awaits a thread that calls them. `stage` and `track` block, so an async kind calls them in
    one: `await anyio.to_thread.run_sync(ctx.stage, inputs)`.
    """

    def __init__(self, call: Call, send: Callable[[Frame], None] | None = None, places: Places | None = None) -> None:
        self._call = call
        self._send = send
        """None where nothing is heard of the job before its end."""
        self._places = places or Places()
        self._cancelled = False
        self._making = threading.Lock()
        self._workspace: Workspace | None = None
        self._knows_workspace = False
        self._over = False
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
            message=self._told("message", message),
            step=self._told("step", step),
            eta_ms=_whole("eta_ms", eta_ms),
            counts=counts if counts is None else _counts(counts),
        )
        self._say(report)

    def emit(self, event: str, body: Any) -> None:
        """Say something outside the log, on `agent.<event>.<job_id>`; `event` is two tokens, as `response.progress`."""
        topic, _, name = event.partition(".")
        token_or_raise("first token of an emitted event", topic)
        token_or_raise("second token of an emitted event", name)
        self._say(Emitted(topic=topic, name=name, body=self.hidden_in(encode(body))))

    @property
    def workspace(self) -> Path:
        """A fresh directory of this attempt's own, with `input` and `output` in it, made when first asked for.

        It is removed after the attempt; of one that failed, the operator may have it kept. Events never name it.
        Raises `StorageError` where none can be made.
        """
        return self._known_workspace().path

    def stage(self, inputs: Mapping[str, str]) -> Path:
        """Copy each URI of `inputs` to its name below the workspace's `input`, read-only; that directory.

        Names are relative, as `data/prices.csv`. Staged may be what is below the storage root, and below what the
        operator allows. Blocks. Raises `Fail`: reason `user` for a name that cannot be, `config` for a URI that may not
        be staged, `storage` for one where nothing is; and `StorageError` where another attempt may fare better.
        """
        workspace = self._known_workspace()
        with workspace.opened() as root:
            stage(root, self._places.storage, inputs)
        return workspace.path / INPUT

    def track(
        self,
        include: Sequence[str] = ("*",),
        exclude: Sequence[str] = (),
        max_bytes: int = 100 * 1024 * 1024,
        where: str = "output",
    ) -> Commit | None:
        """Keep the files below the workspace's `where` under one commit, and say so: an event `files_tracked`.

        Files are taken whose name, as `plots/a.png`, matches any of `include` and none of `exclude`; `*` is any text,
        `/` included. They are stored by their sha256 below the storage root, at most `max_bytes` of them together.

        Where that fails the job goes on: an event `files_tracking_failed` tells why, and None is returned. One file
        that is refused fails the whole set: a link, a pipe, a socket, a device, a name that is not UTF-8 or has control
        characters, a file that changes meanwhile, or one that has hard links elsewhere. Blocks.
        Raises `TypeError` for patterns that are one text, `ValueError` for a `where` or a `max_bytes` that cannot be,
        and `Fail` for a job that its kind's `company` let share a call.
        """
        selection = Selection(include=_patterns("include", include), exclude=_patterns("exclude", exclude))
        limit = _whole("max_bytes", max_bytes, "track") or 0
        try:
            folders = parts(where)
        except ValueError as error:
            raise ValueError(f"track: where must be a directory of the workspace, and {where!r} {error}") from error
        if self._send is None:
            raise Fail(
                f"track: kind {self.kind} lets this job share a call, and of such nothing is heard before its end; "
                "its method company must answer None for it",
                reason="config",
            )
        try:
            workspace = self._known_workspace()
            with workspace.opened() as root:
                commit, told = track(
                    root,
                    self._places.storage,
                    workspace.spare,
                    where=folders,
                    selection=selection,
                    max_bytes=limit,
                )
        except StorageError as error:
            commit, told = None, untracked(error)
        self._say(told)
        return commit

    @property
    def stopped(self) -> bool:
        """True once somebody asked the job to stop, whatever its deadline. For hosts."""
        return self._cancelled

    def cancel(self) -> None:
        """Set `cancelled`. For hosts."""
        self._cancelled = True

    @property
    def has_workspace(self) -> bool:
        """Whether one was made. For hosts."""
        return self._workspace is not None

    def hidden(self, text: str) -> str:
        """`text` without the whereabouts of the workspace. For hosts."""
        return text if self._workspace is None else self._workspace.hidden(text)

    def hidden_in(self, body: bytes) -> bytes:
        """The same, of JSON. For hosts."""
        return body if self._workspace is None else self._workspace.hidden_in(body)

    def own_workspace(self) -> Path:
        """The same as `workspace`, for hosts: one that the job never asks for may be the next attempt's, too."""
        return self._made_workspace().path

    def close(self, *, failed: bool) -> None:
        """Remove the workspace, or keep it where that is wanted of attempts that failed. For hosts."""
        with self._making:
            self._over = True
            if self._workspace is not None:
                self._workspace.close(failed=failed, is_known=self._knows_workspace)

    def _known_workspace(self) -> Workspace:
        self._knows_workspace = True
        return self._made_workspace()

    def _made_workspace(self) -> Workspace:
        with self._making:
            if self._over:
                raise StorageError("the attempt is over, and its workspace with it")
            if self._workspace is None:
                self._workspace = self._places.workspaces.make(f"{self._call.job}.{self.run}.{self.attempt}")
            return self._workspace

    def _say(self, frame: Frame) -> None:
        if self._send is not None:
            self._send(frame)

    def _told(self, name: str, value: str | None) -> str | None:
        text = _text(name, value)
        return text if text is None else self.hidden(text)


def _whole(name: str, value: int | None, what: str = "progress") -> int | None:
    """The number as an `int`: other libraries have whole numbers of their own."""
    if value is None:
        return None
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if not 0 <= number <= _MOST:
        raise ValueError(f"{what}: {name} must be a whole number, 0 or more, not {value!r}")
    return number


def _text(name: str, value: str | None) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"progress: {name} must be a text, not {value!r}")
    return value


def _patterns(name: str, patterns: Sequence[str]) -> tuple[str, ...]:
    if isinstance(patterns, str) or not all(isinstance(pattern, str) for pattern in patterns):
        raise TypeError(f"track: {name} must be a list of patterns, as ['*.csv'], not {patterns!r}")
    return tuple(patterns)


def _counts(counts: Any) -> dict[str, int]:
    if not isinstance(counts, Mapping) or not all(isinstance(key, str) for key in counts):
        raise TypeError(f"progress: counts must be a dict of names and numbers, not {counts!r}")
    return {key: _whole(f"counts[{key!r}]", value) or 0 for key, value in counts.items()}
