"""`jetray try`: one call of a kind, in this process, by the same host that runs it in an actor."""

from __future__ import annotations

import importlib
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import msgspec

from contracts.calls import Call, Emitted, Frame, Raised, Reported, Returned, Tracked, TrackingFailed
from contracts.codec import Undecodable, canonical, check_depth
from contracts.events import Moved, TrackedFile
from infra.store.files import NatsAccess
from workers.hosting import StorageConfig, WorkspacesConfig, places
from workers.kinds.context import Places
from workers.kinds.host import KindHost
from workers.kinds.premises import Premises
from workers.kinds.registry import Kind, KindError, collect
from workers.launcher import exits
from workers.launcher.exits import Failure
from workers.launcher.logs import to_stderr
from workers.runtime import terms
from workers.settings import Settings

__all__ = ["tryout"]

JOB_ID = "try"


def tryout(target: str, input_file: str, settings: Settings) -> int:
    """Run the kind `module:name` on the input in `input_file`, and say how it went. Raises `KindError`, `Failure`."""
    # Of a job that raises what it should not, its author wants the traceback.
    to_stderr(logging.WARNING)
    kind = _kind(target)
    body = _input(kind, input_file, settings.limits.input_depth)
    return _tell(kind, anyio.run(_run, kind, body, settings))


def _kind(target: str) -> Kind:
    module, colon, name = target.partition(":")
    if not (module and colon and name):
        raise Failure(f"{target} is not MODULE:KIND, as in score_text:score-text")
    try:
        found = collect(importlib.import_module(module))
    except ImportError as error:
        raise KindError(f"{module} cannot be imported: {error}") from error
    kinds = {kind.name: kind for kind in found}
    kind = kinds.get(name) or next((each for each in found if each.target.__name__ == name), None)
    if kind is None:
        holds = ", ".join(kinds) or "none; decorate a function with @job"
        raise KindError(f"{module} holds no kind {name} (it holds {holds})")
    if kind.is_batch:
        raise Failure(f"{name} is a batch kind, whose children run elsewhere: publish it to a stack of `jetray up`")
    return kind


def _input(kind: Kind, file: str, depth: int) -> bytes:
    try:
        body = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        check_depth(body, depth)
        return canonical(kind.spec.decode(body))
    except OSError as error:
        raise Failure(f"{file} cannot be read: {error.strerror}") from error
    except Undecodable as error:
        raise Failure(f"{file} is no input of {kind.name}: {error}") from error


async def _run(kind: Kind, body: bytes, settings: Settings) -> Returned | Raised:
    deadline_s, own_s = terms.deadline_s(settings, kind), terms.attempt_deadline_s(settings, kind)
    timeout_s = min(deadline_s, own_s or deadline_s)
    call = Call(
        kind=kind.name,
        job_id=JOB_ID,
        run=1,
        attempt=1,
        input=body,
        deadline=time.time() + timeout_s,
        timeout_s=timeout_s,
        exclusive=kind.exclusive,
        streams=kind.takes_context,
        correlation_id=JOB_ID,
        attempt_deadline=timeout_s < deadline_s,
    )
    with TemporaryDirectory(prefix="jetray-try-") as folder:
        host = KindHost({kind.name: kind}, terms.configs(settings), _places(settings, folder), Premises())
        return await host.execute(call, _show)


def _places(settings: Settings, folder: str) -> Places:
    """Files go to `folder`. Besides what may always be staged, what is below the current directory may be."""
    inputs = [settings.storage.root, *settings.workspaces.inputs, f"file://{Path.cwd().resolve()}"]
    nats = settings.nats
    access = NatsAccess(url=nats.url, credentials=nats.credentials, inbox_prefix=nats.inbox_prefix)
    storage = StorageConfig(root=f"file://{Path(folder).resolve()}", inputs=inputs, nats=access)
    workspaces = WorkspacesConfig(base=settings.workspaces.base, keep_failed=settings.workspaces.keep_failed)
    return places(storage, workspaces)


def _show(frame: Frame) -> None:
    match frame:
        case Reported():
            fields = " ".join(f"{name}={value}" for name, value in msgspec.to_builtins(frame).items() if name != "type")
            line = f"progress {fields}"
        case Emitted():
            line = f"agent.{frame.topic}.{frame.name} {frame.body.decode()}"
        case Tracked(commit=commit, files=files):
            line = "\n".join([f"files_tracked {commit}", *_listed(files)])
        case TrackingFailed(error=error, files=refused):
            line = "\n".join([f"files_tracking_failed {error.type}: {error.message}", *_listed(refused)])
    print(line, file=sys.stderr, flush=True)


def _listed(files: Sequence[TrackedFile | str] | Moved) -> list[str]:
    if isinstance(files, Moved):
        return ["  more than an event may list"]
    return [
        f"  {file}" if isinstance(file, str) else f"  {file.name} ({file.bytes} bytes, sha256 {file.sha256})"
        for file in files
    ]


def _tell(kind: Kind, outcome: Returned | Raised) -> int:
    if isinstance(outcome, Returned):
        print(msgspec.json.format(outcome.result, indent=2).decode())
        return exits.OK
    error = outcome.error
    if error.reason == "config":
        raise KindError(error.message)
    how = "asks to be tried again" if error.retryable else "failed"
    after = "" if outcome.retry_after_s is None else f" after {outcome.retry_after_s:g} s"
    raise Failure(f"{kind.name} {how}{after} ({error.reason}): {error.type}: {error.message}")
