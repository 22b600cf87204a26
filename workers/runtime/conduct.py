"""One run of a batch: expand, publish, fold the children's notices, report, reduce.

Nothing of it lives only here: children are durable messages under ids that follow from the parent's, and the notices
are read from the first one on, so whoever takes the batch over comes to the same tally.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any, Final, cast

import anyio
import msgspec

from contracts.errors import ErrorInfo, bounded
from contracts.events import Asked, Cancelled, Outcome, Started, event_name
from contracts.joins import Notice
from contracts.tokens import is_token
from workers.core import job as core
from workers.core.tally import Tally, duplicate_keys
from workers.kinds.registry import Child, ChildEnd, Fail, Kind
from workers.runtime.attempt import Throttle, bounded_result
from workers.runtime.children import Children, End
from workers.runtime.ends import NOWHERE, read_ends, read_stages, stage_of
from workers.runtime.intake import Received
from workers.runtime.notices import Notices
from workers.runtime.rooms import Rooms
from workers.runtime.sending import Sending
from workers.runtime.unfit import Unfit, each, unfit_group

__all__ = ["Conduct"]

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
        self._code = rooms.batches[kind.name]
        self._received = received
        self._started = started
        self._post = post
        self._name = f"{started.kind}.{started.job_id}"
        self._began = anyio.current_time()
        self._done_before = 0
        self._stages: Mapping[str, int] = {}
        """Where the children were that were ended for the batch's sake."""
        self._know((), 0, 0, None)

    def _know(self, children: Sequence[Child], since: int, letters: int, most: int | None) -> None:
        """From here on whatever ends the batch ends these; `most` of them are under way at once."""
        self._children = Children(
            self._rooms, self._started, children, since=since, traceparent=self._received.traceparent
        )
        self._tally = Tally(self._children.names, since, letters)
        self._notices = Notices(self._rooms, self._name, self._tally)
        self._sending = Sending(self._rooms, self._children, self._tally, own_kind=self._started.kind, most=most)

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
        counts = await self._end_children(reason)
        self._post(core.Raised(error, counts=counts))

    async def cancel(self, asked: Asked) -> None:
        """End every child, published or not, for whoever asked for it."""
        self._post(core.ChildrenEnded(await self._end_children(f"its batch was cancelled: {asked.reason}")))

    async def _conduct(self) -> core.Stimulus:
        await self._expand()
        if self._started.run > 1 or self._started.attempt > 1:
            await self._notices.catch_up()
            self._done_before = len(self._tally.ends)
        reason = await self._until_settled()
        if not self._tally.done:
            await self._end_children(reason)
        return await self._reduce()

    # Children out, notices in

    async def _expand(self) -> None:
        children = self._answer(self._code.expand, self._received.input)
        if not all(_is_well_formed(child) for child in children):
            raise Unfit("user", "BadExpansion", "expand must give a Child with a text key and a token as its kind")
        twice = duplicate_keys([child.key for child in children])
        if twice:
            raise Unfit("user", "DuplicateKey", f"the batch names {', '.join(map(repr, twice[:10]))} more than once")
        if not children:
            raise Unfit("user", "EmptyBatch", "the batch has no children")
        most = self._answer(self._code.parallelism, self._received.input)
        self._know(children, *await self._since(), most)

    async def _since(self) -> tuple[int, int]:
        """Where this run began: in `EVENTS`, and in `DLQ`."""
        if self._started.run == 1:
            return 0, 0
        requeued = await self._rooms.journal.requeued(self._started.kind, self._started.job_id)
        return (0, 0) if requeued is None else (requeued[0], requeued[1].dlq_sequence)

    async def _until_settled(self) -> str:
        """Have the children run until all have ended, or the batch's code says why the others need not."""
        async with unfit_group() as group:
            throttle = Throttle(self._post, PROGRESS_S, group)
            group.start_soon(self._sending.run)
            reason = await self._fold(throttle)
            throttle.close()
            group.cancel_scope.cancel()
        return reason

    async def _fold(self, throttle: Throttle) -> str:
        if self._tally.done:
            # All had ended when it was taken over, and nobody said so.
            throttle.offer(self._report())
        async with aclosing(self._notices.follow()) as places:
            while True:
                if self._tally.done:
                    return "all have ended"
                if reason := self._answer(self._code.settled, self._received.input, self._tally.counts()):
                    return str(reason)
                self._sending.ended(await anext(places))
                throttle.offer(self._report())

    def _report(self) -> core.Reported:
        counts, total = dict(self._tally.counts()), len(self._children)
        done = total - counts["open"]
        elapsed_s = anyio.current_time() - self._began
        rate = (done - self._done_before) / elapsed_s if elapsed_s else 0.0
        return core.Reported(
            done=done,
            total=total,
            counts={**counts, "in_progress": self._sending.under_way},
            elapsed_ms=round(elapsed_s * 1000),
            per_second=round(rate, 3),
            eta_ms=round(counts["open"] / rate * 1000) if rate else None,
        )

    # The end

    async def _reduce(self) -> core.Stimulus:
        def outline(end: ChildEnd) -> Any:
            return self._answer(self._code.outline, end)

        journal = self._rooms.journal
        try:
            ends = await read_ends(journal, self._rooms.store, self._children, self._tally, outline)
            result = self._answer(self._code.reduce, self._received.input, ends)
            body = self._answer(msgspec.json.encode, result)
        except Unfit as unfit:
            return core.Raised(unfit.error, counts={**self._tally.counts(), **self._stages})
        name = f"results/{self._started.kind}/{self._started.job_id}/{self._started.run}-{self._started.attempt}.json"
        return core.Returned(await bounded_result(self._rooms.store, body, name))

    async def _end_children(self, reason: str) -> dict[str, int]:
        """Cancel every child that has not ended, published or not: how many ended how."""
        is_new = not len(self._children)
        if is_new:
            with suppress(Unfit):
                await self._expand()
        await self._notices.catch_up()
        if is_new:
            self._done_before = len(self._tally.ends)
        cancelled_before = [notice for notice in self._tally.ends.values() if notice.outcome == "cancelled"]
        asked = Asked(reason=bounded(reason), requested_by=self._name)
        stages = Counter(cancelled_queued=0, cancelled_running=0)
        left = [place for place in range(len(self._children)) if place not in self._tally.ends]

        async def end(place: int) -> None:
            found = await self._children.end(place, asked)
            self._tally.saw(place, self._notice(place, found))
            self._sending.ended(place)
            if found is not None and isinstance(found.event, Cancelled):
                stages[stage_of(found.event)] += 1
            throttle.offer(self._report())

        async with anyio.create_task_group() as group:
            throttle = Throttle(self._post, PROGRESS_S, group)
            if left:
                # At once: whoever takes over knows by this that the batch's own code brought no gateway down.
                throttle.offer(self._report())
            await each(left, end, at_once=ENDED_AT_ONCE)
            throttle.close()
        # Whoever held the batch before may have ended some for the same reason.
        stages.update(await read_stages(self._rooms.journal, self._name, cancelled_before))
        self._stages = stages
        return {**self._tally.counts(), **self._stages}

    def _notice(self, place: int, found: End | None) -> Notice:
        name = self._children.names[place]
        if found is None:
            return Notice(child=name, index=place, outcome="refused", run=1, sequence=NOWHERE)
        outcome = cast(Outcome, event_name(found.event))
        return Notice(child=name, index=place, outcome=outcome, run=found.event.run, sequence=found.sequence)

    def _answer(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What the batch's own code answers; `Unfit` where it fails, or breaks."""
        try:
            return function(*arguments)
        except Fail as failure:
            raise Unfit(failure.reason, "Fail", str(failure)) from failure
        except Exception as error:
            raise Unfit("user", type(error).__name__, str(error)) from error


def _is_well_formed(child: Any) -> bool:
    if not isinstance(child, Child):
        return False
    # A struct believes whatever it is made with.
    key, kind = cast(object, child.key), cast(object, child.kind)
    return isinstance(key, str) and isinstance(kind, str) and is_token(kind)
