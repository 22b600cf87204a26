"""One run of a batch: expand, publish, fold the children's notices, report, reduce.

Nothing of it lives only here: children are durable messages under ids that follow from the parent's, and the notices
are read from the first one on, so whoever takes the batch over comes to the same tally.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any, Final, cast

import anyio
import msgspec

from contracts import events, joins, subjects
from contracts.errors import ErrorInfo, bounded
from contracts.events import Asked, Cancelled, Completed, Failed, Started
from contracts.tokens import is_token
from infra.bus.base import Stored
from workers.core import job as core
from workers.core.tally import Tally, duplicate_keys
from workers.kinds.registry import Child, ChildEnd, Fail, Kind
from workers.runtime.attempt import Throttle, bounded_result
from workers.runtime.children import Children, Unfit
from workers.runtime.intake import Received
from workers.runtime.patience import patiently
from workers.runtime.rooms import Rooms

__all__ = ["Conduct"]

log = logging.getLogger("jetray.conduct")

PROGRESS_S: Final = 0.5
"""Between two `progress` of a batch."""
ENDED_AT_ONCE: Final = 64
"""Children that are being ended side by side."""


class Conduct:
    """Conducts one attempt at one batch; stimuli go to `post`, the last of them the outcome."""

    def __init__(
        self, rooms: Rooms, kind: Kind, received: Received, started: Started, post: Callable[[core.Stimulus], None]
    ) -> None:
        self._rooms = rooms
        self._batch: Any = rooms.batches[kind.name]
        self._received = received
        self._started = started
        self._post = post
        self._name = f"{started.kind}.{started.job_id}"
        self._children = self._known(())
        self._tally = Tally(())
        self._folded_to = 0
        self._folded = anyio.Event()

    async def run(self) -> None:
        """To the outcome; stopped, the children go on, for whoever conducts the batch next."""
        left = (self._started.deadline - self._rooms.bus.server_now()).total_seconds()
        try:
            with anyio.move_on_after(max(0.0, left)):
                self._post(await self._conduct())
                return
        except Unfit as unfit:
            await self.give_up(unfit.error, "the batch cannot be carried out")
            return
        error = ErrorInfo(
            reason="deadline", type="DeadlineExceeded", message="the batch did not end before its deadline"
        )
        await self.give_up(error, "the deadline of the batch passed")

    async def give_up(self, error: ErrorInfo, reason: str) -> None:
        """End every child, published or not, and then the batch with `error`."""
        await self._end_children(reason)
        self._post(core.Raised(error))

    async def cancel(self, asked: Asked) -> None:
        """End every child, published or not, for whoever asked for it."""
        self._post(core.ChildrenEnded(await self._end_children(f"its batch was cancelled: {asked.reason}")))

    async def _conduct(self) -> core.Stimulus:
        await self._expand()
        if self._started.run > 1 or self._started.attempt > 1:
            await self._catch_up()
        async with anyio.create_task_group() as group:
            throttle = Throttle(self._post, PROGRESS_S, group)
            group.start_soon(self._fold, throttle)
            unfit = await self._send_all()
            while unfit is None and not self._tally.done:
                await self._folded.wait()
            throttle.close()
            group.cancel_scope.cancel()
        if unfit is not None:
            raise unfit
        return await self._reduce([await self._end_of(index) for index in range(len(self._children))])

    # Children out

    async def _expand(self) -> None:
        try:
            children = list(self._batch.expand(self._received.input))
        except Exception as error:
            raise Unfit("user", type(error).__name__, str(error)) from error
        if not all(_is_well_formed(child) for child in children):
            raise Unfit("user", "BadExpansion", "expand must give a Child with a text key and a token as its kind")
        twice = duplicate_keys([child.key for child in children])
        if twice:
            raise Unfit("user", "DuplicateKey", f"the batch names {', '.join(map(repr, twice[:10]))} more than once")
        if not children:
            raise Unfit("user", "EmptyBatch", "the batch has no children")
        since, letters = await self._since()
        # Known from here on, so that whatever ends the batch ends them.
        self._children = self._known(children, since)
        self._tally = Tally(self._children.names, since, letters)

    async def _since(self) -> tuple[int, int]:
        """Where this run began: in `EVENTS`, and in `DLQ`."""
        if self._started.run == 1:
            return 0, 0
        requeued = await self._rooms.journal.requeued(self._started.kind, self._started.job_id)
        return (0, 0) if requeued is None else (requeued[0], requeued[1].dlq_sequence)

    def _known(self, children: Any, since: int = 0) -> Children:
        return Children(self._rooms, self._started, children, since=since, traceparent=self._received.traceparent)

    async def _send_all(self) -> Unfit | None:
        """Publish the children. Those of one kind wait while its queue is too deep, and hold back no others."""
        of_kind: dict[str, list[int]] = {}
        for index in range(len(self._children)):
            of_kind.setdefault(self._children[index].kind, []).append(index)
        found: list[Unfit] = []

        async def send(kind: str, indexes: Sequence[int]) -> None:
            try:
                await self._send(kind, indexes)
            except Unfit as unfit:
                found.append(unfit)
                sending.cancel_scope.cancel()

        async with anyio.create_task_group() as sending:
            for kind, indexes in of_kind.items():
                sending.start_soon(send, kind, indexes)
        return found[0] if found else None

    async def _send(self, kind: str, indexes: Sequence[int]) -> None:
        for index in indexes:
            if index in self._tally.ends:
                continue
            if kind != self._started.kind:
                # A batch of its own kind would wait for itself.
                await self._rooms.upstream.admit(kind)
            await self._children.send(index)

    # Notices in

    async def _catch_up(self) -> None:
        """Fold the notices that are there already."""
        subject = subjects.child_notice(self._name)
        last = await patiently(lambda: self._rooms.bus.last(subjects.JOINS, subject), what=f"reading {subject}")
        if last is None:
            return
        async with aclosing(self._rooms.bus.follow(subjects.JOINS, subject, after=self._folded_to)) as stored:
            while self._folded_to < last.sequence:
                await self._take(await anext(stored))

    async def _fold(self, throttle: Throttle) -> None:
        following = self._rooms.bus.follow(subjects.JOINS, subjects.child_notice(self._name), after=self._folded_to)
        async with aclosing(following) as stored:
            async for message in stored:
                if await self._take(message):
                    throttle.offer(self._report(self._tally.counts()))
                    self._folded.set()
                    self._folded = anyio.Event()

    async def _take(self, message: Stored) -> bool:
        """Take a notice in; True where it changed the tally."""
        self._folded_to = message.sequence
        try:
            notice = joins.decode(message.body)
        except msgspec.DecodeError as error:
            log.warning("%s: message %d of JOINS is no notice: %s", self._name, message.sequence, error)
            return False
        if notice.child not in self._tally.places or (notice.outcome == "refused" and await self._is_ours(notice)):
            return False
        return self._tally.fold(notice)

    async def _is_ours(self, notice: joins.Notice) -> bool:
        """A refused message says nothing of a child whose log names this batch: it lives, under an earlier message."""
        kind, _, job_id = notice.child.partition(".")
        view = await self._rooms.journal.read(kind, job_id)
        return view.tail is not None and view.tail.parent == self._name

    def _report(self, counts: Mapping[str, int]) -> core.Reported:
        total = len(self._children)
        return core.Reported(done=total - counts["open"], total=total, counts=dict(counts))

    # The end

    async def _end_of(self, index: int) -> ChildEnd:
        notice, child = self._tally.ends[index], self._children[index]
        event = None if notice.outcome == "refused" else await self._terminal(notice.sequence)
        return ChildEnd(
            child=child,
            job_id=self._children.ids[index],
            outcome=notice.outcome,
            event=event,
            error=_error(notice, event),
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

    async def _end_children(self, reason: str) -> dict[str, int]:
        """Cancel every child that has not ended, published or not: how many ended how."""
        if not len(self._children):
            with suppress(Unfit):
                await self._expand()
        await self._catch_up()
        counts = Counter(self._tally.counts())
        asked, room = Asked(reason=bounded(reason), requested_by=self._name), anyio.CapacityLimiter(ENDED_AT_ONCE)

        async def end(index: int) -> None:
            async with room:
                outcome = await self._children.end(index, asked)
            if outcome is not None:
                counts.update({outcome: 1, "open": -1})
                throttle.offer(self._report(counts))

        async with anyio.create_task_group() as ending:
            throttle = Throttle(self._post, PROGRESS_S, ending)
            if counts["open"]:
                # At once: whoever takes over knows by this that the batch's own code brought no gateway down.
                throttle.offer(self._report(counts))
            for index in range(len(self._children)):
                if index not in self._tally.ends:
                    ending.start_soon(end, index)
        return dict(counts)


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
