"""The notices of a batch's children, folded into its tally from the first one on."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec

from contracts import joins, subjects
from infra.bus.base import Stored
from workers.core.tally import Tally
from workers.runtime.patience import patiently
from workers.runtime.rooms import Rooms

__all__ = ["Notices"]

log = logging.getLogger("jetray.conduct")


class Notices:
    """What has become of the children of `parent`, `<kind>.<id>`, as far as it was read."""

    def __init__(self, rooms: Rooms, parent: str, tally: Tally) -> None:
        self._bus = rooms.bus
        self._journal = rooms.journal
        self._parent = parent
        self._subject = subjects.child_notice(parent)
        self._folded_to = 0
        self.tally = tally

    async def catch_up(self) -> None:
        """Fold the notices that are there already."""
        last = await patiently(lambda: self._bus.last(subjects.JOINS, self._subject), what=f"reading {self._subject}")
        if last is None:
            return
        async with aclosing(self._bus.follow(subjects.JOINS, self._subject, after=self._folded_to)) as stored:
            while self._folded_to < last.sequence:
                await self._take(await anext(stored))

    async def follow(self) -> AsyncGenerator[int]:
        """Fold notices as they come; the place of each child about which one told something new."""
        async with aclosing(self._bus.follow(subjects.JOINS, self._subject, after=self._folded_to)) as stored:
            async for message in stored:
                place = await self._take(message)
                if place is not None:
                    yield place

    async def _take(self, message: Stored) -> int | None:
        """Take a notice in; the child's place where it changed the tally."""
        self._folded_to = message.sequence
        try:
            notice = joins.decode(message.body)
        except msgspec.DecodeError as error:
            log.warning("%s: message %d of JOINS is no notice: %s", self._parent, message.sequence, error)
            return None
        if notice.child not in self.tally.places or (notice.outcome == "refused" and await self._is_ours(notice)):
            return None
        return self.tally.places[notice.child] if self.tally.fold(notice) else None

    async def _is_ours(self, notice: joins.Notice) -> bool:
        """A refused message says nothing of a child whose log names this batch: it lives, under an earlier message."""
        kind, _, job_id = notice.child.partition(".")
        view = await self._journal.read(kind, job_id)
        return view.tail is not None and view.tail.parent == self._parent
