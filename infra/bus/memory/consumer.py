"""One durable consumer: leases, redelivery, order, and whom the next message goes to.

What is due by time (a lease that ends, a delay that is over, a pause) happens in `advance`, at the time at which it was
due: nobody needs to be looking then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

from infra.bus.base import ConsumerState, Delivery, Stored
from infra.bus.topology import NANOSECONDS, subject_matches

if TYPE_CHECKING:
    from infra.bus.memory.stream import Stream

__all__ = ["Consumer", "Taker"]


class Taker(Protocol):
    """Who asked for messages."""

    def take(self, delivery: Delivery) -> bool:
        """A message for it; False where the lease ends at once and the message goes out again."""
        ...

    def wake(self) -> None:
        """Something may be due sooner than it was."""
        ...


@dataclass(slots=True)
class _Lease:
    number: int
    ends: float


@dataclass(slots=True)
class _Request:
    taker: Taker
    count: int


class Consumer:
    """Messages wait, are leased out, and wait again or are done. `now` is always anyio's clock, in seconds."""

    def __init__(self, config: Mapping[str, Any], stream: Stream) -> None:
        self.config = dict(config)
        self._stream = stream
        self._waiting: dict[int, None] = {}
        self._leases: dict[int, _Lease] = {}
        # Leases that ended or were given back; these messages go out before any that waits.
        self._again: dict[int, None] = {}
        self._requests: deque[_Request] = deque()
        self._takers: set[Taker] = set()
        self._delivered = stream.last_sequence if config["deliver_policy"] == "new" else 0
        self._paused_until = 0.0
        self._next_end = inf
        self._find_waiting()

    def __repr__(self) -> str:
        return f"Consumer({self._stream.name}/{self.config['name']}, {len(self._waiting)}+{len(self._leases)})"

    def state(self, now: float) -> ConsumerState:
        """Its figures."""
        self.advance(now)
        return ConsumerState(
            waiting=len(self._waiting),
            unacknowledged=len(self._leases),
            redelivered=sum(lease.number > 1 for lease in self._leases.values()),
            paused=now < self._paused_until,
            config=dict(self.config),
        )

    def leftover(self, after: int, now: float) -> Delivery | None:
        """What it has done with, and the stream has all the same; only before the first message that is in hand."""
        self.advance(now)
        floor = min(self._leases, default=self._delivered + 1) - 1
        sequence = next(self._stream.after(after, self.config["filter_subject"]), None)
        return None if sequence is None or sequence > floor else self._delivery(sequence, 1)

    def update(self, config: Mapping[str, Any], now: float) -> None:
        """Go on with another configuration. Leases that run keep their ends."""
        self.config.update(config)
        self._find_waiting()
        self._dispatch(now)

    def pause(self, until: float, now: float) -> None:
        """Hand out nothing before `until`."""
        self.advance(now)
        self._paused_until = until
        self._dispatch(now)
        self._wake()

    def due(self, now: float) -> float:
        """When `advance` may next have something to do; infinity for never."""
        return self._paused_until if now < self._paused_until else self._next_end

    def advance(self, now: float) -> None:
        """Do what is due by now, in the order in which it came due."""
        while self._next_end <= now:
            at = self._next_end
            ended = [s for s, lease in self._leases.items() if lease.ends <= at and s not in self._again]
            self._again.update(dict.fromkeys(sorted(ended)))
            self._next_end = min((lease.ends for s, lease in self._leases.items() if s not in self._again), default=inf)
            self._dispatch(at)
        self._dispatch(now)

    def ask(self, taker: Taker, count: int, now: float) -> None:
        """Hand out up to `count` messages to `taker`, now and later."""
        self.advance(now)
        self._takers.add(taker)
        self._requests.append(_Request(taker, count))
        self._dispatch(now)

    def withdraw(self, taker: Taker) -> None:
        """`taker` wants nothing more."""
        self._takers.discard(taker)
        self._requests = deque(request for request in self._requests if request.taker is not taker)

    def stored(self, message: Stored, now: float) -> None:
        """The stream has a new message."""
        self.advance(now)
        if subject_matches(self.config["filter_subject"], message.subject):
            self._waiting[message.sequence] = None
            self._dispatch(now)

    def drop(self, sequence: int) -> None:
        """The stream has this message no longer."""
        self._waiting.pop(sequence, None)
        self._leases.pop(sequence, None)
        self._again.pop(sequence, None)

    def ack(self, sequence: int, now: float) -> None:
        """Done, whoever says so: the server does not ask which delivery an acknowledgement belongs to."""
        self.advance(now)
        self._leases.pop(sequence, None)
        self._again.pop(sequence, None)
        if self._stream.config["retention"] == "workqueue":
            self._stream.remove(sequence)
        self._dispatch(now)

    def nak(self, sequence: int, delay_s: float, now: float) -> None:
        """Out again, whoever has it. While delayed it keeps its place among the unacknowledged."""
        self.advance(now)
        lease = self._leases.get(sequence)
        if lease is None:
            return
        if delay_s > 0:
            self._again.pop(sequence, None)
            self._lease_until(lease, now + delay_s)
        else:
            self._again.setdefault(sequence)
            self._dispatch(now)

    def in_progress(self, sequence: int, now: float) -> None:
        """The lease begins anew, whoever says so; not of what already waits to go out again."""
        self.advance(now)
        lease = self._leases.get(sequence)
        if lease is not None:
            self._lease_until(lease, now + self._ack_wait)

    @property
    def _ack_wait(self) -> float:
        return float(self.config["ack_wait"]) / NANOSECONDS

    def _find_waiting(self) -> None:
        self._waiting = dict.fromkeys(self._stream.after(self._delivered, self.config["filter_subject"]))

    def _dispatch(self, now: float) -> None:
        if now < self._paused_until:
            return
        while self._requests and (sequence := self._next()) is not None:
            self._hand_out(sequence, now)

    def _next(self) -> int | None:
        # What goes out again already has its place: the limit holds back new messages alone.
        if self._again:
            sequence = next(iter(self._again))
            del self._again[sequence]
            return sequence
        if self._waiting and len(self._leases) < self.config["max_ack_pending"]:
            sequence = next(iter(self._waiting))
            del self._waiting[sequence]
            self._delivered = sequence
            return sequence
        return None

    def _hand_out(self, sequence: int, now: float) -> None:
        lease = self._leases.setdefault(sequence, _Lease(0, 0.0))
        lease.number += 1
        self._lease_until(lease, now + self._ack_wait)
        if not self._next_taker().take(self._delivery(sequence, lease.number)):
            self._again.setdefault(sequence)

    def _next_taker(self) -> Taker:
        """Requests take turns, message by message."""
        request = self._requests.popleft()
        request.count -= 1
        if request.count:
            self._requests.append(request)
        return request.taker

    def _lease_until(self, lease: _Lease, end: float) -> None:
        lease.ends = end
        if end < self._next_end:
            self._next_end = end
            self._wake()

    def _wake(self) -> None:
        for taker in self._takers:
            taker.wake()

    def _delivery(self, sequence: int, number: int) -> Delivery:
        message = self._stream.get(sequence)
        assert message is not None, "a message that is gone was dropped here too"
        return Delivery(
            subject=message.subject,
            headers=message.headers,
            body=message.body,
            stream=self._stream.name,
            consumer=self.config["name"],
            sequence=sequence,
            number=number,
            stored=message.time,
            pending=len(self._waiting),
            token=f"{self._stream.name}.{self.config['name']}.{number}.{sequence}",
        )
