"""Runs calls where jobs run, whatever the pool: in a Ray actor, in a child process, or in this very task.

Nothing here raises for what a job does: user code's errors become `Raised`, and the pool sees an exception only where
the host itself is broken.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
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
from workers.kinds.aside import call_aside
from workers.kinds.context import JobContext, Places
from workers.kinds.premises import Premises
from workers.kinds.registry import Fail, Kind, KindError, Retry
from workers.kinds.storage import StorageError

__all__ = ["KindHost"]


_encoder = msgspec.json.Encoder()


class KindHost:
    """Runs calls of the kinds it knows. Their files are at `places`.

    With `premises` it has its process to itself, and a sync kind that takes a context works in its attempt's workspace.
    """

    def __init__(
        self,
        kinds: dict[str, Kind],
        configs: dict[str, Raw],
        places: Places | None = None,
        premises: Premises | None = None,
    ) -> None:
        self._kinds = kinds
        self._configs = configs
        self._places = places or Places()
        self._premises = premises
        self._built: dict[str, Callable[..., Any]] = {}
        self._unbuilt: dict[str, BaseException] = {}
        """Kinds that could not be built for the call that comes next."""
        self._decoders: dict[str, msgspec.json.Decoder[Any]] = {}
        self._running: dict[str, tuple[JobContext, anyio.CancelScope]] = {}

    async def execute(self, call: Call, send: Callable[[Frame], None]) -> Returned | Raised:
        """Run the call to its outcome.

        Of a call that streams, frames go to `send`, on the loop that awaits this and not after it has returned. One of
        a sync kind that does not stream sends none, and the loop waits for it.
        """
        kind = self._kinds[call.kind]
        if not (call.streams or kind.is_async):
            return await self._unheard(kind, call)
        voice = _Voice(send)
        with anyio.CancelScope(deadline=anyio.current_time() + call.timeout_s) as scope:
            context = JobContext(call, voice.say, self._places)
            self._running[call.job] = (context, scope)
            outcome: Returned | Raised | None = None
            try:
                outcome = await self._run(kind, call, context)
                if scope.cancel_called and not _stands(kind, outcome):
                    outcome = None
            finally:
                del self._running[call.job]
                voice.end()
                await self.close(context, failed=not (isinstance(outcome, Returned) or context.stopped))
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

    async def close(self, context: JobContext, *, failed: bool) -> None:
        """What is done after an attempt."""
        if not context.has_workspace:
            context.close(failed=failed)
            return
        # Its workspace may hold many files, and the loop may serve other jobs.
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(functools.partial(context.close, failed=failed))

    async def _unheard(self, kind: Kind, call: Call) -> Returned | Raised:
        """It has the loop to itself until it is done: nobody could ask it to stop, and no time runs out here."""
        context = JobContext(call, None, self._places)
        outcome: Returned | Raised | None = None
        try:
            outcome = await self._run(kind, call, context)
        finally:
            context.close(failed=not isinstance(outcome, Returned))
        return outcome

    async def _run(self, kind: Kind, call: Call, context: JobContext) -> Returned | Raised:
        try:
            function = self._function(kind)
            value = self._decoder(kind.name, kind.input_type).decode(call.input)
            arguments = (context, value) if kind.takes_context else (value,)
            if kind.is_async:
                result = await function(*arguments)
            elif not kind.takes_context:
                # Short by declaration, and alone in its actor: a thread or a directory would cost more than the job.
                result = call_aside(function, *arguments)
            else:
                with self._lent(call, context):
                    result = await self._in_thread(call, function, arguments)
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 - whatever user code raises is the job's
            return _outcome_of(error, kind, context)
        if isinstance(result, (Retry, Fail)):
            return _outcome_of(result, kind, context)
        return self._encoded(kind, result, context)

    async def _in_thread(self, call: Call, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        if call.streams:
            return await anyio.to_thread.run_sync(function, *arguments)
        return call_aside(function, *arguments)

    def _lent(self, call: Call, context: JobContext) -> AbstractContextManager[None]:
        if self._premises is None or not call.exclusive:
            return nullcontext()
        return self._premises.lent(context.own_workspace())

    def _decoder(self, name: str, of: Any) -> msgspec.json.Decoder[Any]:
        decoder = self._decoders.get(name)
        if decoder is None:
            decoder = self._decoders[name] = msgspec.json.Decoder(of)
        return decoder

    def _encoded(self, kind: Kind, result: Any, context: JobContext) -> Returned | Raised:
        try:
            body = context.hidden_in(_encoder.encode(msgspec.convert(result, kind.result_type, from_attributes=True)))
            # An instance of the type is believed as it stands, and NaN becomes null: only reading it back tells.
            self._decoder(f"{kind.name} result", kind.result_type).decode(body)
            return Returned(result=body)
        except (TypeError, ValueError, RecursionError, OverflowError) as error:
            where = unencodable_path(result)
            # Of a dict, msgspec's own path says `[...]` where ours names the key.
            text = str(error) if where is None else f"{str(error).partition(' - at `')[0]} - at `{where}`"
            text = f"the result does not fit the kind's result type: {context.hidden(text)}"
            return _raised("user", "BadResult", text)

    def _function(self, kind: Kind) -> Callable[..., Any]:
        if kind.name in self._unbuilt:
            raise self._unbuilt.pop(kind.name)
        function = self._built.get(kind.name)
        if function is None:
            function = self._built[kind.name] = kind.build(self._configs.get(kind.name))
        return function


class _Voice:
    """Carries what a job says to the loop, whoever says it: any thread, and one with a loop of its own too."""

    def __init__(self, send: Callable[[Frame], None]) -> None:
        self._send: Callable[[Frame], None] | None = send
        self._home = threading.get_ident()
        self._token = anyio.lowlevel.current_token()

    def say(self, frame: Frame) -> None:
        if threading.get_ident() == self._home:
            self._hear(frame)
        else:
            anyio.from_thread.run_sync(self._hear, frame, token=self._token)

    def end(self) -> None:
        """From here on nobody listens. What threads that a job left behind say would be taken for the next one's."""
        self._send = None

    def _hear(self, frame: Frame) -> None:
        if self._send is not None:
            self._send(frame)


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
