"""Streams that are full: the kinds that cannot be worked meanwhile are not pulled.

A stream is full from the first write that it refuses. Its kinds are pulled again once nobody has waited before it for a
moment, whether they got through or have gone without their write (their leases ended): the next write tells. That there
is room is said when writes go through and none has been refused for a while, so that a stream which makes room message
by message does not flap.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import anyio
from msgspec import Struct

from contracts.fleet import PressureReason
from contracts.subjects import DLQ, EVENTS
from infra.bus.base import StreamFull
from workers.runtime.episodes import Episode, Episodes

__all__ = ["Pressure"]

log = logging.getLogger("jetray.pressure")

CALM_S: Final = 1.0
"""How long nobody must wait before messages are pulled again."""
ROOM_S: Final = 5.0
"""How long nobody must wait before it is said that there is room again."""

_STREAMS: Final[Mapping[PressureReason, str]] = {"events_full": EVENTS, "dlq_full": DLQ}


class _Cause(Struct):
    """One full stream, and who waits for it."""

    episode: Episode
    waiting: int = 0
    calm_since: float = math.inf
    through: bool = False
    """A write has got through since the last refusal."""
    open: bool = False
    """Messages are pulled again, though it is not said yet that there is room."""

    @property
    def due(self) -> float:
        """When something happens to it if nobody is refused again."""
        if not self.open:
            return self.calm_since + CALM_S
        return self.calm_since + ROOM_S if self.through else math.inf


class Pressure:
    """Which kinds are not pulled, and why. `serve` must be running for any of it to end."""

    def __init__(self, kinds: Collection[str], episodes: Episodes) -> None:
        self._kinds = tuple(sorted(kinds))
        self._episodes = episodes
        self._causes: dict[tuple[PressureReason, str], _Cause] = {}
        self._news = anyio.Event()
        self.changed: Callable[[], None] = lambda: None
        """Called when the answer of `paused` may have changed."""
        self.lend: Callable[[str, int], None] = lambda kind, count: None
        """Called with the deliveries of a kind (1, or -1 when it is over) that wait and need not hold back others."""

    def paused(self, kind: str) -> bool:
        """Whether messages of this kind are not to be pulled."""
        return any(kind in cause.episode.kinds and not cause.open for cause in self._causes.values())

    @contextmanager
    def events_full(self, error: StreamFull) -> Iterator[None]:
        """A write to `EVENTS` was refused for want of room, and is tried again: no kind can be worked."""
        with self._waiting("events_full", "", self._kinds, error):
            yield

    @contextmanager
    def dlq_full(self, kind: str, error: StreamFull) -> Iterator[None]:
        """A dead letter of this kind was refused for want of room: the kind stops, and leaves the slots to others."""
        with self._waiting("dlq_full", kind, (kind,), error):
            self.lend(kind, 1)
            try:
                yield
            finally:
                self.lend(kind, -1)

    def halted(self, profile: str, kinds: tuple[str, ...]) -> None:
        """No actor of a profile can start: its kinds are left to other gateways until it `resumed`."""
        cause = self._causes["circuit_open", profile] = _Cause(self._episodes.begin("circuit_open", kinds))
        log.error("no message of %s is pulled: profile %s has no actor", ", ".join(cause.episode.kinds), profile)
        self.changed()

    def resumed(self, profile: str) -> None:
        """It has one."""
        cause = self._causes.pop(("circuit_open", profile))
        lasted = self._episodes.end(cause.episode, anyio.current_time())
        log.warning("profile %s has an actor again after %.1f s", profile, lasted)
        self.changed()

    async def serve(self) -> None:
        """End each pressure when it is over, until cancelled."""
        while True:
            now = anyio.current_time()
            for key, cause in [*self._causes.items()]:
                if now >= cause.due and cause.open:
                    del self._causes[key]
                    self._release(cause)
                elif now >= cause.due:
                    cause.open = True
                    self.changed()
            due = min((cause.due for cause in self._causes.values()), default=math.inf)
            with anyio.CancelScope(deadline=due):
                await self._news.wait()

    @contextmanager
    def _waiting(self, reason: PressureReason, key: str, kinds: tuple[str, ...], error: StreamFull) -> Iterator[None]:
        cause = self._causes.get((reason, key)) or self._apply(reason, key, kinds, error)
        cause.waiting += 1
        cause.through = False
        cause.calm_since = math.inf
        if cause.open:
            cause.open = False
            self.changed()
        try:
            yield
        except BaseException:
            self._one_less(cause)
            raise
        cause.through = True
        self._one_less(cause)

    def _one_less(self, cause: _Cause) -> None:
        cause.waiting -= 1
        if not cause.waiting:
            cause.calm_since = anyio.current_time()
            self._tell()

    def _apply(self, reason: PressureReason, key: str, kinds: tuple[str, ...], error: StreamFull) -> _Cause:
        log.error(
            "%s is full (%s): nothing is acknowledged and no message of %s is pulled until it has room; raise setting "
            "streams.%s_max_bytes and run `jetray apply`%s",
            _STREAMS[reason],
            error,
            ", ".join(kinds),
            _STREAMS[reason].lower(),
            "" if reason == "events_full" else ", or replay and purge what is in it",
        )
        cause = self._causes[reason, key] = _Cause(self._episodes.begin(reason, kinds))
        self.changed()
        return cause

    def _release(self, cause: _Cause) -> None:
        lasted = self._episodes.end(cause.episode, cause.calm_since)
        log.warning("%s has room again after %.1f s", _STREAMS[cause.episode.reason], lasted)

    def wrote(self, reason: PressureReason, kind: str = "") -> None:
        """A write got through: where nobody knew whether there is room, there is."""
        cause = self._causes.get((reason, kind))
        if cause is not None and cause.open and not cause.through:
            cause.through = True
            self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = anyio.Event()
