"""Runs calls where jobs run, whatever the pool: in a Ray actor, in a child process, or in this very task.

Nothing here raises for what a job does: user code's errors become `Raised`, and the pool sees an exception only where
the host itself is broken.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import msgspec
from msgspec import Raw

from contracts.calls import Call, Frame, Raised, Returned
from contracts.codec import unencodable_path
from contracts.errors import ErrorInfo, bounded
from workers.kinds.context import JobContext, Places
from workers.kinds.registry import Fail, Kind, KindError, Retry
from workers.kinds.storage import StorageError

__all__ = ["KindHost"]


_encoder = msgspec.json.Encoder()


class KindHost:
    """Runs calls of the kinds it knows. Their files are at `places`."""

    def __init__(self, kinds: dict[str, Kind], configs: dict[str, Raw], places: Places | None = None) -> None:
        self._kinds = kinds
        self._configs = configs
        self._places = places or Places()
        self._built: dict[str, Callable[..., Any]] = {}
        self._unbuilt: dict[str, BaseException] = {}
        """Kinds that could not be built for the call that comes next."""
        self._decoders: dict[str, msgspec.json.Decoder[Any]] = {}
        self._running: dict[str, tuple[JobContext, anyio.CancelScope]] = {}

    async def execute(self, call: Call, send: Callable[[Frame], None]) -> Returned | Raised:
        """Run the call to its outcome; frames go to `send`, always from the loop that awaits this."""
        kind = self._kinds[call.kind]
        if not (call.streams or kind.is_async):
            # It has the loop to itself until it is done: nobody could ask it to stop, and no time runs out here.
            return await self._run(kind, call, None)
        with anyio.CancelScope(deadline=anyio.current_time() + call.timeout_s) as scope:
            context = JobContext(call, _from_anywhere(send) if kind.takes_context else send, self._places)
            self._running[call.job] = (context, scope)
            outcome: Returned | Raised | None = None
            try:
                outcome = await self._run(kind, call, context)
                if scope.cancel_called and not _stands(kind, outcome):
                    outcome = None
            finally:
                del self._running[call.job]
                if kind.takes_context:
                    await _close(context, failed=not (isinstance(outcome, Returned) or context.stopped))
            if outcome is not None:
                return outcome
        if context.stopped:
            return _raised("user", "Cancelled", "the job was asked to stop")
        what = "attempt" if call.attempt_deadline else "job"
        message = f"the {what} did not end before its deadline"
        return _raised("deadline", "DeadlineExceeded", message, retryable=call.attempt_deadline)

    def prepare(self, call: Call) -> None:
        """Build the call's kind, if that is not done yet. What goes wrong is the outcome that `execute` tells."""
        kind = self._kinds[call.kind]
        try:
            self._function(kind)
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 - user code runs here, too
            self._unbuilt[kind.name] = error

    def cancel(self, job: str) -> bool:
        """Ask the running job `<kind>.<id>` to stop; False where it does not run here."""
        running = self._running.get(job)
        if running is None:
            return False
        context, scope = running
        context.cancel()
        scope.cancel()
        return True

    async def _run(self, kind: Kind, call: Call, context: JobContext | None) -> Returned | Raised:
        try:
            function = self._function(kind)
            value = self._decoder(kind.name, kind.input_type).decode(call.input)
            arguments = (context or _silent(call), value) if kind.takes_context else (value,)
            if kind.is_async:
                result = await function(*arguments)
            elif kind.takes_context and context is not None:
                result = await anyio.to_thread.run_sync(function, *arguments)
            else:
                # Short by declaration, and alone in its actor: a thread would cost more than the job.
                result = function(*arguments)
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 - whatever user code raises is the job's
            return _outcome_of(error, kind, context or _silent(call))
        if isinstance(result, (Retry, Fail)):
            return _outcome_of(result, kind, context or _silent(call))
        return self._encoded(kind, result, context)

    def _decoder(self, name: str, of: Any) -> msgspec.json.Decoder[Any]:
        decoder = self._decoders.get(name)
        if decoder is None:
            decoder = self._decoders[name] = msgspec.json.Decoder(of)
        return decoder

    def _encoded(self, kind: Kind, result: Any, context: JobContext | None) -> Returned | Raised:
        try:
            body = _encoder.encode(msgspec.convert(result, kind.result_type, from_attributes=True))
            if context is not None:
                body = context.hidden_in(body)
            # An instance of the type is believed as it stands, and NaN becomes null: only reading it back tells.
            self._decoder(f"{kind.name} result", kind.result_type).decode(body)
            return Returned(result=body)
        except (TypeError, ValueError, RecursionError, OverflowError) as error:
            where = unencodable_path(result)
            # Of a dict, msgspec's own path says `[...]` where ours names the key.
            text = str(error) if where is None else f"{str(error).partition(' - at `')[0]} - at `{where}`"
            text = text if context is None else context.hidden(text)
            return _raised("user", "BadResult", f"the result does not fit the kind's result type: {text}")

    def _function(self, kind: Kind) -> Callable[..., Any]:
        if kind.name in self._unbuilt:
            raise self._unbuilt.pop(kind.name)
        function = self._built.get(kind.name)
        if function is None:
            function = self._built[kind.name] = kind.build(self._configs.get(kind.name))
        return function


def _silent(call: Call) -> JobContext:
    """A context for whoever has none: of a job that says nothing."""
    return JobContext(call, lambda frame: None)


async def _close(context: JobContext, *, failed: bool) -> None:
    if not context.has_workspace:
        context.close(failed=failed)
        return
    # Its workspace may hold many files, and the loop may serve other jobs.
    with anyio.CancelScope(shield=True):
        await anyio.to_thread.run_sync(functools.partial(context.close, failed=failed))


def _from_anywhere(send: Callable[[Frame], None]) -> Callable[[Frame], None]:
    """Sends from the loop, whoever says something: any thread, and one with a loop of its own too."""
    home, token = threading.get_ident(), anyio.lowlevel.current_token()

    def say(frame: Frame) -> None:
        if threading.get_ident() == home:
            send(frame)
        else:
            anyio.from_thread.run_sync(send, frame, token=token)

    return say


def _stands(kind: Kind, outcome: Returned | Raised) -> bool:
    """Whether what a job gave counts although it had been asked to stop: a result does, an error is the stop's doing.

    A thread cannot be cancelled. It may have seen `cancelled` and returned half its work, so its results do not count.
    """
    in_thread = kind.takes_context and not kind.is_async
    return isinstance(outcome, Returned) and not in_thread


def _outcome_of(error: BaseException, kind: Kind, context: JobContext) -> Raised:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        # A task group wraps what its tasks raise, and `Retry` or `Fail` may be in there.
        error = error.exceptions[0]
    name = type(error).__name__
    text = bounded(context.hidden(str(error)) or name)
    match error:
        case Retry():
            info = ErrorInfo(reason="user", type=name, message=text, retryable=True)
            return Raised(error=info, retry_after_s=error.after)
        case Fail():
            return Raised(error=ErrorInfo(reason=error.reason, type=name, message=text, retryable=False))
        case StorageError():
            return Raised(error=ErrorInfo(reason="storage", type=name, message=text, retryable=True))
        case KindError():
            return Raised(error=ErrorInfo(reason="config", type=name, message=text, retryable=False))
    context.log.warning("job %s raised %s", context.job_id, name, exc_info=error)
    return Raised(error=ErrorInfo(reason="user", type=name, message=text, retryable=kind.errors.retryable(error)))


def _raised(reason: Any, name: str, message: str, *, retryable: bool = False) -> Raised:
    return Raised(error=ErrorInfo(reason=reason, type=name, message=bounded(message), retryable=retryable))
