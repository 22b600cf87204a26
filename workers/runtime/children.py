"""The children of one run of a batch: their messages out, and their ends.

Nothing here is remembered: a child's id follows from its parent's, and its log tells what has become of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from typing import Final

from msgspec import Struct

from contracts import events, subjects
from contracts import headers as h
from contracts.codec import Undecodable, canonical
from contracts.events import Asked, Cancelled, Completed, Event, Failed, Requeued, Started, is_terminal
from infra.bus.base import NoSuchSubject, Outgoing, PubAck, TooLarge
from workers.core.log import LogView
from workers.core.rerun import Again, Fresh, Requeue, rerun
from workers.core.tally import child_id
from workers.kinds.registry import Child
from workers.runtime.cancel import Canceller, Subject
from workers.runtime.journal import Written
from workers.runtime.patience import patiently
from workers.runtime.registered import registered
from workers.runtime.rooms import Rooms
from workers.runtime.unfit import Unfit, each

__all__ = ["Children", "End"]

AGAIN_AT_ONCE: Final = 16
"""Children whose logs are asked side by side what their batch's later run does with them."""


class End(Struct, frozen=True):
    """How a child ended."""

    event: Completed | Failed | Cancelled
    sequence: int
    """Of the event in `EVENTS`."""


class Children:
    """What a batch was expanded into."""

    def __init__(
        self, rooms: Rooms, started: Started, children: Sequence[Child], *, since: int, traceparent: str | None
    ) -> None:
        self._rooms = rooms
        self._started = started
        self._children = children
        self._since = since
        self._traceparent = traceparent
        self._parent = f"{started.kind}.{started.job_id}"
        self._foreign: dict[str, bool] = {}
        """Kinds that only other gateways have, and whether they are batches: not to be read for each child anew."""
        self._canceller = Canceller(rooms.journal, gateway=started.gateway, now=rooms.bus.server_now)
        self.ids = [child_id(started.job_id, child.key) for child in children]
        self.names = [f"{child.kind}.{job_id}" for child, job_id in zip(children, self.ids, strict=True)]
        """`<kind>.<id>` of each."""

    def __len__(self) -> int:
        return len(self._children)

    def __getitem__(self, index: int) -> Child:
        return self._children[index]

    # Out

    async def send(self, indexes: Sequence[int]) -> None:
        """See to it that the children run in this run of their batch. Waits for room; raises `Unfit`."""
        if self._started.run == 1:
            await self._send_first(indexes)
            return
        await each(indexes, self._send_again, at_once=AGAIN_AT_ONCE)

    async def _send_first(self, indexes: Sequence[int]) -> None:
        outgoing = [self._message(index, f"{self.names[index]}.1") for index in indexes]
        answers = await self._rooms.bus.publish_many(outgoing)
        for index, message, answer in zip(indexes, outgoing, answers, strict=True):
            if not isinstance(answer, PubAck):
                await self._publish(index, message)

    async def _send_again(self, index: int) -> None:
        kind, job_id, body = self._children[index].kind, self.ids[index], self._body(index)
        view = await self._rooms.journal.read(kind, job_id)
        digest = self._digest(kind, body)
        while True:
            match rerun(view, parent=self._parent, since=self._since, input_sha256=digest):
                case Fresh():
                    # What was published in the batch's earlier run must not be taken for this message.
                    await self._publish(index, self._message(index, f"{kind}.{job_id}.1.{self._started.run}"))
                case Requeue(run=run, dlq_sequence=letter):
                    event = self._requeued(view, run, letter, digest)
                    done = await self._rooms.journal.append(event, after=view.sequence, traceparent=self._traceparent)
                    if not isinstance(done, Written):
                        view = done
                        continue
                    await self._publish(index, self._message(index, f"{kind}.{job_id}.{run}", run))
                case Again(run=run):
                    await self._publish(index, self._message(index, f"{kind}.{job_id}.{run}", run))
                case _:
                    pass
            return

    def _requeued(self, view: LogView, run: int, dlq_sequence: int, digest: str | None) -> Requeued:
        tail = view.tail
        assert tail is not None, "an empty log has no run to come after"
        return Requeued(
            kind=tail.kind,
            job_id=tail.job_id,
            n=tail.n + 1,
            run=run,
            attempt=1,
            time=self._rooms.bus.server_now(),
            gateway=self._started.gateway,
            origin=tail.origin,
            # Not the log's, which names none where the child was cancelled before it began: this run is ours to end.
            parent=self._parent,
            correlation_id=tail.correlation_id,
            subject_id=tail.subject_id,
            dlq_sequence=dlq_sequence,
            input_sha256=view.opening.input_sha256 if view.opening is not None else digest or "",
        )

    def _message(self, index: int, message_id: str, run: int | None = None) -> Outgoing:
        headers = {
            h.MSG_ID: message_id,
            h.JOB_ID: self.ids[index],
            h.PARENT: self._parent,
            h.INDEX: str(index),
            h.CORRELATION: self._started.correlation_id or self._started.job_id,
        }
        if run is not None:
            headers[h.RUN] = str(run)
        if self._traceparent is not None:
            headers[h.TRACEPARENT] = self._traceparent
        return Outgoing(subjects.job(self._children[index].kind), self._body(index), headers)

    async def _publish(self, index: int, message: Outgoing) -> None:
        child, bus, what = self._children[index], self._rooms.bus, f"a child of {self._parent}"
        try:
            await patiently(
                lambda: bus.publish(message.subject, message.body, message.headers), what=what, unless=(NoSuchSubject,)
            )
        except NoSuchSubject as error:
            raise Unfit("unknown_kind", "UnknownKind", f"no gateway has registered kind {child.kind}") from error
        except TooLarge as error:
            raise Unfit("too_large", "TooLarge", f"child {child.key}: {error}") from error

    def _body(self, index: int) -> bytes:
        child = self._children[index]
        try:
            return canonical(child.input)
        except (TypeError, ValueError, RecursionError, OverflowError) as error:
            raise Unfit("user", type(error).__name__, f"child {child.key} cannot be published: {error}") from error

    def _digest(self, kind: str, body: bytes) -> str | None:
        known = self._rooms.kinds.get(kind)
        if known is None:
            return None
        try:
            return known.spec.digest(known.spec.decode(body, foreign=False))
        except Undecodable:
            return None

    # Ends

    async def end(self, index: int, asked: Asked) -> End | None:
        """End the child, published or not: how it ended. None where its log is another's, and goes on."""
        kind, job_id = self._children[index].kind, self.ids[index]
        subject = Subject(
            kind=kind,
            job_id=job_id,
            batch=await self._is_batch(kind),
            origin=self._started.origin,
            parent=self._parent,
            correlation_id=self._started.correlation_id,
        )
        view = await self._canceller.cancel(subject, asked)
        tail, sequence = view.tail, view.sequence
        assert tail is not None, "what was cancelled has a log"
        if not is_terminal(tail) and tail.parent == self._parent:
            tail, sequence = await self._end_of(kind, job_id, view.sequence)
        return End(tail, sequence) if isinstance(tail, (Completed, Failed, Cancelled)) else None

    async def _is_batch(self, kind: str) -> bool:
        """Whether the child has children of its own, which only its holder can end."""
        known = self._rooms.kinds.get(kind)
        if known is not None:
            return known.is_batch
        if kind not in self._foreign:
            info = await registered(self._rooms.bus, kind)
            self._foreign[kind] = info is not None and info.batch
        return self._foreign[kind]

    async def _end_of(self, kind: str, job_id: str, after: int) -> tuple[Event, int]:
        """The end that its own holder brings about."""
        following = self._rooms.bus.follow(subjects.EVENTS, subjects.job_log(kind, job_id), after=after)
        async with aclosing(following) as stored:
            async for message in stored:
                event = events.decode(message.body)
                if is_terminal(event):
                    return event, message.sequence
        raise AssertionError("a follower does not end by itself")
