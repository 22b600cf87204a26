"""A follower of a stream that is some way behind its leader: what reads see that do not ask the leader."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import anyio

from infra.bus.base import Stored
from infra.bus.memory.stream import Stream, as_time

__all__ = ["Replica"]

LAG: Final = timedelta(seconds=0.5)


class Replica:
    """Reads of a stream as it was a moment ago. No client reads here; the mutation gate lets one do so."""

    def __init__(self, leader: Stream) -> None:
        self._leader = leader

    def last(self, subject: str) -> int:
        """The last sequence on a subject filter; 0 for none."""
        known = as_time(anyio.current_time()) - LAG
        return max((it.sequence for it in self._leader.messages(subject) if it.time <= known), default=0)

    def get(self, sequence: int) -> Stored | None:
        """The message with that sequence."""
        return self._leader.get(sequence)
