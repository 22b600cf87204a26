"""Limits of kinds: jobs a second, and jobs at once under one key. Each gateway keeps its own.

A delivery is admitted once it is read, before it takes a slot and before anything of it is in the log. One that is over
a limit is given back with a delay of its own, so that those which wait do not come back together, and others take its
place. Past half the room that a lane has for delayed messages it is moved to the tail of its queue instead. Of a kind
whose rate is used up no more is asked for than has tokens, so that its backlog stays where it is.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import anyio
import msgspec

from contracts.codec import canonical
from infra.bus.base import Bus, Delivery, NoSuchSubject, StreamFull, TooLarge
from workers.core.limits import Bucket, Keys
from workers.runtime.delayed import Delayed
from workers.runtime.intake import Received
from workers.runtime.reissue import reissue
from workers.runtime.settle import Settle
from workers.settings import KindSettings, Settings

__all__ = ["MOVES", "Limits", "Visit"]

log = logging.getLogger("jetray.limits")

MOVES: Final = 500
"""Messages of a kind that are moved to the tail in a second at most: a queue of one key would turn for nothing."""
CROWDED_S: Final = 1.0
"""How long no more is asked for than may be moved, after a message over a limit found its lane crowded."""
PORTION_S: Final = 0.05
"""Of so many seconds the tokens are awaited before more is asked for: not each by itself."""


class Limits:
    """The limits of all kinds that have any. `serve` must be running for a kind without tokens to be pulled again."""

    def __init__(
        self, settings: Settings, *, bus: Bus, settle: Settle, delayed: Delayed, jitter: Callable[[], float]
    ) -> None:
        self._bus = bus
        self._settle = settle
        self._delayed = delayed
        self._of = {
            name: _Limit(kind, jitter)
            for name, kind in settings.kinds.settings.items()
            if kind.rate is not None or kind.key is not None
        }
        self._news = anyio.Event()
        self.changed: Callable[[], None] = lambda: None
        """Called when `allowance` may have grown."""

    def visit(self, kind: str) -> Visit | None:
        """For each delivery that arrives, at once; None where its kind has no limits."""
        limit = self._of.get(kind)
        return None if limit is None else Visit(limit)

    def allowance(self, kind: str) -> int | None:
        """Messages of a kind for which its limits have room now; None where they do not say."""
        limit = self._of.get(kind)
        if limit is None:
            return None
        found = limit.allowance(anyio.current_time())
        if found == 0:
            self._news.set()
        return found

    async def turn_away(self, delivery: Delivery, received: Received, visit: Visit) -> None:
        """Settle a delivery that was not admitted: it comes again, and the log knows nothing of it."""
        limit = self._of[received.ticket.kind]
        if self._delayed.crowded(delivery.consumer)[0]:
            now = anyio.current_time()
            limit.crowded_until = now + CROWDED_S
            if limit.moves.take(now) and await self._move(delivery, received):
                await self._settle.ack(delivery)
                return
        delay_s = visit.turn()
        await self._settle.nak(delivery, delay_s)
        self._delayed.gave_back(delivery, delay_s)

    async def serve(self) -> None:
        """Say when there are tokens again, until cancelled."""
        while True:
            self._news = anyio.Event()
            due = min((limit.due for limit in self._of.values()), default=math.inf)
            with anyio.CancelScope(deadline=due):
                await self._news.wait()
            now = anyio.current_time()
            ready = [limit for limit in self._of.values() if limit.due <= now]
            for limit in ready:
                limit.due = math.inf
            if ready:
                self.changed()

    async def _move(self, delivery: Delivery, received: Received) -> bool:
        """Publish it anew at the tail. Moved twice, as after a lost acknowledgement, it is stored once."""
        ticket = received.ticket
        try:
            await reissue(
                self._bus,
                kind=ticket.kind,
                job_id=ticket.job_id,
                run=ticket.run or 1,
                body=delivery.body,
                originals=delivery.headers,
                subject=delivery.subject,
                message_id=f"{delivery.stream}-{delivery.sequence}.moved",
                origin=ticket.origin,
                unless=(NoSuchSubject, StreamFull),
            )
        except (NoSuchSubject, StreamFull, TooLarge) as error:
            log.info("%s.%s waits where it is, its queue does not take it: %s", ticket.kind, ticket.job_id, error)
            return False
        return True


class Visit:
    """One delivery of a kind that has limits, from its arrival until it is in hand no more."""

    def __init__(self, limit: _Limit) -> None:
        self._limit = limit
        self._arriving = True
        self._key: str | bytes | None = None
        self._job_id: str | None = None
        """Of a job that was admitted and takes something."""
        self._awaits_key = False
        limit.arriving += 1

    def admit(self, received: Received, *, runs: bool) -> bool:
        """Whether it may go on. Another delivery of a job that runs here (`runs`) takes nothing more."""
        self._arrived()
        if runs or received.error is not None:
            return True
        limit, now, job_id = self._limit, anyio.current_time(), received.ticket.job_id
        self._key = limit.key_of(received.input)
        if not limit.take_key(self._key, job_id, now):
            self._awaits_key = True
            return False
        if not limit.take_token(now):
            limit.give_key(self._key, job_id, now, ran=False)
            return False
        self._job_id = job_id
        return True

    def turn(self) -> float:
        """It was not admitted: after how many seconds it should come again."""
        return self._limit.turn(self._key if self._awaits_key else None, anyio.current_time())

    def leave(self, *, ran: bool) -> None:
        """It is in hand no more."""
        self._arrived()
        if self._job_id is not None:
            now = anyio.current_time()
            self._limit.give_key(self._key, self._job_id, now, ran=ran)
            if not ran:
                self._limit.give_token(now)
            self._job_id = None

    def _arrived(self) -> None:
        if self._arriving:
            self._arriving = False
            self._limit.arriving -= 1


class _Limit:
    """The limits of one kind."""

    def __init__(self, settings: KindSettings, jitter: Callable[[], float]) -> None:
        now = anyio.current_time()
        rate = settings.rate
        self._jitter = jitter
        self._path = () if settings.key is None else tuple(settings.key.split("."))
        self._keys = None if settings.max_running_per_key is None else Keys(settings.max_running_per_key)
        self._bucket = None if rate is None else Bucket(rate, settings.burst or math.ceil(rate), now)
        self._portion = 1 if rate is None else max(1, int(rate * PORTION_S))
        self.moves = Bucket(MOVES, MOVES, now)
        self.crowded_until = -math.inf
        """Till then messages over a limit are likely to be moved to the tail."""
        self.arriving = 0
        """Messages in hand that are not read yet."""
        self.due = math.inf
        """When there is an allowance again, where there was none."""

    def allowance(self, now: float) -> int | None:
        """See `Limits.allowance`."""
        rooms = [(self._bucket, self._portion)] if self._bucket is not None else []
        if now < self.crowded_until:
            rooms.append((self.moves, int(MOVES * PORTION_S)))
        if not rooms:
            return None
        found = max(0, min(bucket.there(now) for bucket, _ in rooms) - self.arriving)
        if not found:
            tokens_s = max(bucket.due(portion + self.arriving, now) for bucket, portion in rooms)
            # None to wait for: all that can be are there, for messages that are not read yet and may need none.
            self.due = now + (tokens_s or PORTION_S)
        return found

    def key_of(self, value: Any) -> str | bytes | None:
        """What an input has under the key; None where it has nothing there, and shares with nobody."""
        for name in self._path:
            value = _field(value, name)
        return None if value is None or not self._path else value if isinstance(value, str) else canonical(value)

    def take_key(self, key: str | bytes | None, job_id: str, now: float) -> bool:
        """Let a job run under its key, if there is room."""
        return key is None or self._keys is None or self._keys.take(key, job_id, now)

    def give_key(self, key: str | bytes | None, job_id: str, now: float, *, ran: bool) -> None:
        """It runs no more, or never did."""
        if key is not None and self._keys is not None:
            self._keys.give_back(key, job_id, now, ran=ran)

    def take_token(self, now: float) -> bool:
        """Take a token, if there is one."""
        return self._bucket is None or self._bucket.take(now)

    def give_token(self, now: float) -> None:
        """It was taken for nothing."""
        if self._bucket is not None:
            self._bucket.give_back(now)

    def turn(self, key: str | bytes | None, now: float) -> float:
        """Seconds after which one more should come again that waits for `key`; None: for a token."""
        if key is not None and self._keys is not None:
            return self._keys.turn(key, now, self._jitter())
        assert self._bucket is not None, "somebody refused it"
        return self._bucket.turn(now, self._jitter())


def _field(value: Any, name: str) -> Any:
    """A field of an input, by the name that it has on the wire."""
    if isinstance(value, Mapping):
        return value.get(name)
    if isinstance(value, msgspec.Struct):
        names = dict(zip(type(value).__struct_encode_fields__, type(value).__struct_fields__, strict=True))
        return getattr(value, names[name]) if name in names else None
    return getattr(value, name, None)
