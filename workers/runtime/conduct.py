"""One run of a batch: expand, publish, fold the children's notices, report, reduce.

Nothing of it lives only here: children are durable messages under ids that follow from the parent's, and the notices
are read from the first one on, so whoever takes the batch over comes to the same tally.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress
from typing import Any, Final, cast

import anyio
import msgspec
from anyio.abc import TaskGroup

from contracts import events, joins, subjects
from contracts import headers as h
from contracts.codec import canonical
from contracts.errors import ErrorInfo, Reason, bounded
from contracts.events import Cancelled, Completed, Failed, Started
from contracts.tokens import is_token
from infra.bus.base import BusError, NoSuchSubject, Stored, StreamFull, TooLarge
from workers.core import job as core
from workers.core.tally import Tally, child_id, duplicate_keys
from workers.kinds.registry import Child, ChildEnd, Fail, Kind
from workers.runtime.attempt import Throttle, bounded_result
from workers.runtime.cancel import cancel
from workers.runtime.intake import Received
from workers.runtime.rooms import Rooms

__all__ = ["Conduct"]

log = logging.getLogger("jetray.conduct")

PROGRESS_S: Final = 0.5
"""Between two `progress` of a batch."""
FIRST_WAIT_S: Final = 0.05
LAST_WAIT_S: Final = 2.0
RUN: Final = 1
"""The run that a child's first message opens."""


class _Unfit(Exception):
    """The batch cannot be expanded, or a child of it cannot be published."""

    def __init__(self, reason: Reason, name: str, message: str) -> None:
        super().__init__(message)
        self.error = ErrorInfo(reason=reason, type=name, message=bounded(message))


class Conduct:
    """Conducts one attempt at one batch; stimuli go to `post`, the last of them the outcome."""

    def __init__(
        self, rooms: Rooms, kind: Kind, received: Received, started: Started, post: Callable[[core.Stimulus], None]
    ) -> None:
        self._rooms = rooms
        self._batch: Any = rooms.batches[kind.name]
        self._kind = kind
        self._received = received
        self._started = started
        self._post = post
        self._name = f"{started.kind}.{started.job_id}"
        self._children: Sequence[Child] = ()
        self._ids: list[str] = []
        self._tally = Tally(())
        self._folded = anyio.Event()

    async def run(self) -> None:
        """To the outcome; cancelled, the children go on, for whoever conducts the batch next."""
        left = (self._started.deadline - self._rooms.bus.server_now()).total_seconds()
        try:
            with anyio.move_on_after(max(0.0, left)):
                self._post(await self._conduct())
                return
        except _Unfit as unfit:
            await self.give_up(unfit.error, "the batch cannot be carried out")
            return
        error = ErrorInfo(
            reason="deadline", type="DeadlineExceeded", message="the batch did not end before its deadline"
        )
        await self.give_up(error, "the deadline of the batch passed")

    async def give_up(self, error: ErrorInfo, reason: str) -> None:
        """End every child, published or not, and then the batch with `error`."""
        if not self._children:
            with suppress(_Unfit):
                await self._expand()
        await self._end_children(reason)
        self._post(core.Raised(error))

    async def _conduct(self) -> core.Stimulus:
        await self._expand()
        async with anyio.create_task_group() as group:
            throttle = Throttle(self._post, PROGRESS_S, group)
            group.start_soon(self._fold, throttle)
            unfit = await self._publish_all()
            while unfit is None and not self._tally.done:
                await self._folded.wait()
            throttle.close()
            group.cancel_scope.cancel()
        if unfit is not None:
            raise unfit
        return await self._reduce([await self._end_of(index) for index in range(len(self._children))])

    async def _expand(self) -> None:
        try:
            children = list(self._batch.expand(self._received.input))
        except Exception as error:
            raise _Unfit("user", type(error).__name__, str(error)) from error
        if not all(_is_well_formed(child) for child in children):
            raise _Unfit("user", "BadExpansion", "expand must give a Child with a text key and a token as its kind")
        twice = duplicate_keys([child.key for child in children])
        if twice:
            raise _Unfit("user", "DuplicateKey", f"the batch names {', '.join(map(repr, twice[:10]))} more than once")
        if not children:
            raise _Unfit("user", "EmptyBatch", "the batch has no children")
        # Known from here on, so that whatever ends the batch ends them.
        self._children = children
        self._ids = [child_id(self._started.job_id, child.key) for child in children]
        since = 0
        if self._started.run > 1:
            requeued = await self._rooms.journal.requeued(self._started.kind, self._started.job_id)
            since = 0 if requeued is None else requeued[0]
        self._tally = Tally([f"{c.kind}.{i}" for c, i in zip(children, self._ids, strict=True)], since)

    # Children out

    async def _publish_all(self) -> _Unfit | None:
        for index, child in enumerate(self._children):
            if index not in self._tally.ends:
                unfit = await self._publish(index, child)
                if unfit is not None:
                    return unfit
        return None

    async def _publish(self, index: int, child: Child) -> _Unfit | None:
        try:
            body = canonical(child.input)
        except (TypeError, ValueError, RecursionError, OverflowError) as error:
            return _Unfit("user", type(error).__name__, f"child {child.key} cannot be published: {error}")
        headers = {
            h.MSG_ID: f"{child.kind}.{self._ids[index]}.{RUN}",
            h.JOB_ID: self._ids[index],
            h.PARENT: self._name,
            h.INDEX: str(index),
            h.CORRELATION: self._started.correlation_id or self._started.job_id,
        }
        if self._received.traceparent is not None:
            headers[h.TRACEPARENT] = self._received.traceparent
        wait = FIRST_WAIT_S
        while True:
            try:
                await self._rooms.bus.publish(subjects.job(child.kind), body, headers)
                return None
            except NoSuchSubject:
                return _Unfit("unknown_kind", "UnknownKind", f"no gateway has registered kind {child.kind}")
            except TooLarge as error:
                return _Unfit("too_large", "TooLarge", f"child {child.key}: {error}")
            except StreamFull as error:
                log.info("%s waits for room in jobs.%s: %s", self._name, child.kind, error)
            except BusError as error:
                log.info("%s waits to publish a child: %s", self._name, error)
            await anyio.sleep(wait)
            wait = min(2 * wait, LAST_WAIT_S)

    # Notices in

    async def _fold(self, throttle: Throttle) -> None:
        following = self._rooms.bus.follow(subjects.JOINS, subjects.child_notice(self._name))
        async with aclosing(following) as stored:
            async for message in stored:
                await self._take(message, throttle)

    async def _take(self, message: Stored, throttle: Throttle) -> None:
        try:
            notice = joins.decode(message.body)
        except msgspec.DecodeError as error:
            log.warning("%s: message %d of JOINS is no notice: %s", self._name, message.sequence, error)
            return
        if notice.child not in self._tally.places or (notice.outcome == "refused" and await self._is_ours(notice)):
            return
        if self._tally.fold(notice):
            throttle.offer(
                core.Reported(done=len(self._tally.ends), total=len(self._children), counts=dict(self._tally.counts()))
            )
            self._folded.set()
            self._folded = anyio.Event()

    async def _is_ours(self, notice: joins.Notice) -> bool:
        """A refused message says nothing of a child whose log names this batch: it lives, under an earlier message."""
        kind, _, job_id = notice.child.partition(".")
        view = await self._rooms.journal.read(kind, job_id)
        return view.tail is not None and view.tail.parent == self._name

    # The end

    async def _end_of(self, index: int) -> ChildEnd:
        notice, child = self._tally.ends[index], self._children[index]
        event = None if notice.outcome == "refused" else await self._terminal(notice.sequence)
        return ChildEnd(
            child=child, job_id=self._ids[index], outcome=notice.outcome, event=event, error=_error(notice, event)
        )

    async def _terminal(self, sequence: int) -> Completed | Failed | Cancelled | None:
        found = await self._rooms.journal.at(sequence)
        return found if isinstance(found, (Completed, Failed, Cancelled)) else None

    async def _reduce(self, ends: Sequence[ChildEnd]) -> core.Stimulus:
        try:
            result = self._batch.reduce(self._received.input, ends)
            if isinstance(result, Fail):
                raise result
            body = msgspec.json.encode(result)
        except Fail as failure:
            error = ErrorInfo(reason=failure.reason, type="Fail", message=bounded(str(failure)))
            return core.Raised(error)
        except Exception as error:  # noqa: BLE001 - whatever a kind's own code raises ends its batch
            info = ErrorInfo(reason="user", type=type(error).__name__, message=bounded(str(error)))
            return core.Raised(info)
        name = f"results/{self._started.kind}/{self._started.job_id}/{self._started.run}-{self._started.attempt}.json"
        return core.Returned(await bounded_result(self._rooms.store, body, name))

    async def _end_children(self, reason: str) -> None:
        """Cancel every child that has not ended, published or not."""
        async with anyio.create_task_group() as group:
            for index, child in enumerate(self._children):
                if index not in self._tally.ends:
                    self._cancel(group, child.kind, self._ids[index], reason)

    def _cancel(self, group: TaskGroup, kind: str, job_id: str, reason: str) -> None:
        group.start_soon(
            lambda: cancel(
                self._rooms.journal,
                kind,
                job_id,
                reason=reason,
                requested_by=self._name,
                gateway=self._started.gateway,
                now=self._rooms.bus.server_now,
                origin=self._started.origin,
                parent=self._name,
                correlation_id=self._started.correlation_id,
            )
        )


def _is_well_formed(child: Any) -> bool:
    if not isinstance(child, Child):
        return False
    # A struct believes whatever it is made with.
    key, kind = cast(object, child.key), cast(object, child.kind)
    return isinstance(key, str) and isinstance(kind, str) and is_token(kind)


def _error(notice: joins.Notice, event: events.Event | None) -> ErrorInfo | None:
    match event:
        case Completed():
            return None
        case Failed(error=error):
            return error
        case Cancelled(reason=reason):
            return ErrorInfo(reason="cancelled_child", type="Cancelled", message=bounded(reason))
    if notice.outcome == "refused":
        text = f"refused: its id names another input, or it does not decode (DLQ {notice.sequence})"
        return ErrorInfo(reason="id_conflict", type="Refused", message=text)
    return ErrorInfo(reason="storage", type="Forgotten", message="its terminal event is no longer kept")
