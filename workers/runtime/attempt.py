"""One attempt on the pool: its frames, its deadline, its outcome."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

import anyio
import msgspec
from anyio.abc import TaskGroup
from msgspec import Raw

from contracts import calls, subjects
from contracts import headers as h
from contracts.errors import ErrorInfo
from contracts.events import RESULT_LIMIT, Moved, Started
from infra.bus.base import Bus, Refused, TooLarge
from infra.pool.base import Execution, Reservation
from infra.store.base import Store
from workers.core import job as core
from workers.runtime.inbox import Inbox
from workers.runtime.patience import patiently

__all__ = ["SLACK_S", "Attempt", "Throttle", "bounded_result", "call_for", "outcome_stimulus"]

log = logging.getLogger("jetray.attempt")

PROGRESS_S: Final = 0.1
"""Between two `progress` of a job."""
SLACK_S: Final = 0.25
"""What a job that ends itself at its deadline gets before it is stopped."""
STOP_S: Final = 0.5
"""What a job past its deadline gets between being asked and being killed."""
ASKED_S: Final = 0.1
"""What a job that shares its actor gets at least: one that heeds at once spares its neighbours the kill."""
COUNTS_LIMIT: Final = 16 * 1024
"""Bytes of JSON that the counts of one `progress` may take."""
LAST_WORDS_S: Final = 5.0
"""What a finished job's emitted messages get to reach the bus."""

Post = Callable[[core.Stimulus], None]


class Attempt:
    """Runs a call; stimuli go to `post`, the last of them the outcome. `grace_s` tells what a stopped job gets."""

    def __init__(self, bus: Bus, store: Store, post: Post, grace_s: Callable[[], float]) -> None:
        self._bus = bus
        self._store = store
        self._post = post
        self._grace_s = grace_s
        self._emitted = 0

    async def run(self, reservation: Reservation, call: calls.Call) -> None:
        """To the end, or to the kill: cancelled, it returns once nothing of the job runs any more."""
        ends = anyio.current_time() + call.timeout_s + SLACK_S
        execution = reservation.start(call)
        try:
            outcome = await self._outcome(execution, call)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                # No grace lasts beyond the deadline.
                grace_s = min(self._grace_s(), ends - anyio.current_time())
                await execution.stop(max(grace_s, 0.0 if call.exclusive else ASKED_S))
            raise
        self._post(await outcome_stimulus(self._store, outcome, call))

    async def _outcome(self, execution: Execution, call: calls.Call) -> calls.Outcome:
        if not call.streams:
            return await self._in_time(execution, call)
        words: Inbox[calls.Emitted | None] = Inbox()
        async with anyio.create_task_group() as listening, anyio.create_task_group() as speaking:
            listening.start_soon(self._listen, execution, call, words)
            speaking.start_soon(self._speak, words, call)
            outcome = await self._in_time(execution, call)
            speaking.cancel_scope.deadline = anyio.current_time() + LAST_WORDS_S
        return outcome

    async def _in_time(self, execution: Execution, call: calls.Call) -> calls.Outcome:
        with anyio.move_on_after(call.timeout_s + SLACK_S):
            return await execution.outcome()
        await execution.stop(STOP_S)
        return _past_deadline(call)

    async def _listen(self, execution: Execution, call: calls.Call, words: Inbox[calls.Emitted | None]) -> None:
        """Take in all that the job says, to the last word: what it emits must not keep what belongs into its log."""
        async with anyio.create_task_group() as group:
            throttle = Throttle(self._post, PROGRESS_S, group)
            async for frame in execution.frames():
                match frame:
                    case calls.Reported():
                        throttle.offer(core.Reported(**msgspec.structs.asdict(_bounded_report(frame, call))))
                    case calls.Emitted():
                        words.put(frame)
                    case calls.Tracked(commit=commit, files=files):
                        self._post(core.Tracked(commit, files))
                    case calls.TrackingFailed(error=error, files=refused):
                        self._post(core.TrackingFailed(error, refused))
            throttle.close()
        words.put(None)

    async def _speak(self, words: Inbox[calls.Emitted | None], call: calls.Call) -> None:
        while (frame := await words.get()) is not None:
            await self._emit(frame, call)

    async def _emit(self, frame: calls.Emitted, call: calls.Call) -> None:
        self._emitted += 1
        subject = subjects.agent(frame.topic, frame.name, call.job_id)
        headers = {h.MSG_ID: f"{call.job}.{call.run}.{call.attempt}.{self._emitted}", h.CONTENT_TYPE: h.JSON}
        if call.traceparent is not None:
            headers[h.TRACEPARENT] = call.traceparent
        try:
            await patiently(lambda: self._bus.publish(subject, frame.body, headers), what=subject, unless=(Refused,))
        except (Refused, TooLarge) as error:
            log.warning("what %s said on %s is lost: %s", call.job, subject, error)


def _past_deadline(call: calls.Call) -> calls.Raised:
    """The outcome of an attempt that was killed at its deadline."""
    what = "attempt" if call.attempt_deadline else "job"
    error = ErrorInfo(
        reason="deadline",
        type="DeadlineExceeded",
        message=f"the {what} did not end before its deadline and was killed",
        retryable=call.attempt_deadline,
    )
    return calls.Raised(error=error)


async def outcome_stimulus(store: Store, outcome: calls.Outcome, call: calls.Call) -> core.Stimulus:
    """What an attempt's outcome means to its job; a result over the limit is an artifact by then."""
    match outcome:
        case calls.Returned(result=result, artifacts=artifacts):
            return core.Returned(await bounded_result(store, result, _result_name(call)), artifacts)
        case calls.Raised(error=error, retry_after_s=after):
            return core.Raised(error, after)
        case calls.Gone(error=error):
            return core.Gone(error)


async def bounded_result(store: Store, result: bytes, name: str) -> Raw:
    """The result as it stands in an event: itself, or where it is over the limit a reference to an artifact."""
    if len(result) <= RESULT_LIMIT:
        return Raw(result)
    artifact = await patiently(lambda: store.put(name, result), what=name)
    return Raw(msgspec.json.encode(Moved(artifact=artifact.uri, sha256=artifact.sha256)))


class Throttle:
    """Lets a report through at most every `every_s`; of those in between, the last one."""

    def __init__(self, post: Post, every_s: float, group: TaskGroup) -> None:
        self._post = post
        self._every = every_s
        self._group = group
        self._last = -every_s
        self._kept: core.Reported | None = None
        self._timer: anyio.CancelScope | None = None

    def offer(self, report: core.Reported) -> None:
        """Send now, or soon."""
        self._kept = report
        if self._timer is not None:
            return
        rest = self._last + self._every - anyio.current_time()
        if rest <= 0:
            self.flush()
            return
        self._timer = anyio.CancelScope()
        self._group.start_soon(self._later, rest)

    def flush(self) -> None:
        """Send what was kept."""
        if self._kept is not None:
            self._last = anyio.current_time()
            report, self._kept = self._kept, None
            self._post(report)

    def close(self) -> None:
        """Send what was kept, and nothing later."""
        self.flush()
        if self._timer is not None:
            self._timer.cancel()

    async def _later(self, rest: float) -> None:
        assert self._timer is not None
        with self._timer:
            await anyio.sleep(rest)
        self._timer = None
        self.flush()


def _bounded_report(report: calls.Reported, call: calls.Call) -> calls.Reported:
    """A report that fits into an event: its texts are cut when it is appended, but counts have no least part."""
    if report.counts is None or len(msgspec.json.encode(report.counts)) <= COUNTS_LIMIT:
        return report
    log.warning("%s reports more counts than an event may hold (%d bytes): left out", call.job, COUNTS_LIMIT)
    return msgspec.structs.replace(report, counts=None)


def _result_name(call: calls.Call) -> str:
    return f"results/{call.kind}/{call.job_id}/{call.run}-{call.attempt}.json"


def call_for(
    started: Started,
    *,
    body: bytes,
    now: float,
    exclusive: bool,
    streams: bool,
    traceparent: str | None,
    limit_s: float | None = None,
    share: float = 1.0,
) -> calls.Call:
    """The call that a durable `started` allows; `now` is the server's clock in seconds since the epoch.

    `limit_s` is the attempt's own time. It ends with the job's at the latest. The call gets `share` of what is left.
    """
    of_job = started.deadline.timestamp()
    deadline = of_job if limit_s is None else min(of_job, now + limit_s)
    return calls.Call(
        kind=started.kind,
        job_id=started.job_id,
        run=started.run,
        attempt=started.attempt,
        input=body,
        deadline=deadline,
        timeout_s=max(0.001, (deadline - now) * share),
        exclusive=exclusive,
        streams=streams,
        correlation_id=started.correlation_id,
        traceparent=traceparent,
        attempt_deadline=deadline < of_job,
    )
