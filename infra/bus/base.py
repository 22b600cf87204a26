"""The bus as the runtime sees it: a Protocol, its values and its errors.

BusError
├── Disconnected        nothing was sent
├── NoAnswer            sent, and nobody knows whether it was stored
├── TooLarge            refused here, before the socket
└── Refused             the server said no
    ├── NoSuchSubject   no stream owns the subject (an unknown kind)
    ├── StreamFull      discard: new, and no room (10077), or none on the server's disk (10023)
    └── WrongSequence   another write came first (10071, 10164), or may have (10158)
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from msgspec import Struct

from infra.bus.topology import Topology

__all__ = [
    "Bus",
    "BusError",
    "ConsumerState",
    "Delivery",
    "Disconnected",
    "NoAnswer",
    "NoSuchSubject",
    "Outgoing",
    "PubAck",
    "Puller",
    "Refused",
    "Stored",
    "StreamFull",
    "TooLarge",
    "Trimmed",
    "WrongSequence",
]


class BusError(Exception):
    """Root of everything that goes wrong on the bus."""


class Disconnected(BusError):
    """There is no connection; nothing was sent."""


class NoAnswer(BusError):
    """No answer in time: the write may or may not have been stored."""


class TooLarge(BusError):
    """Headers and body together are over the server's `max_payload`; nothing was sent."""

    def __init__(self, subject: str, size: int, limit: int) -> None:
        super().__init__(f"message to {subject} has {size} bytes with its headers, the server takes {limit}")
        self.size = size
        self.limit = limit


class Refused(BusError):
    """The server refused: `code` as in HTTP, `err_code` the server's own."""

    def __init__(self, code: int, err_code: int, description: str) -> None:
        super().__init__(f"{description} ({code}, {err_code})")
        self.code = code
        self.err_code = err_code
        self.description = description


class NoSuchSubject(Refused):
    """No stream takes the subject."""


class StreamFull(Refused):
    """The stream or the subject is full and discards new messages."""


class WrongSequence(Refused):
    """The expected last sequence is not the last, or another write is in flight."""


class Trimmed(dict[str, str]):
    """Headers that need no trimming: no value begins or ends with a space, or holds the end of a line."""


class Outgoing(Struct, frozen=True, gc=False):
    """A message to be stored."""

    subject: str
    body: bytes
    headers: Mapping[str, str] = {}


class PubAck(Struct, frozen=True, gc=False):
    """The server has stored the message, or had already (`duplicate`; then `sequence` is the first one's)."""

    stream: str
    sequence: int
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as a stream holds it."""

    subject: str
    sequence: int
    headers: Mapping[str, str]
    body: bytes
    time: datetime
    """When the server stored it."""


class Delivery(Struct, frozen=True, gc=False):
    """One delivery of one message to a consumer."""

    subject: str
    headers: Mapping[str, str]
    body: bytes
    stream: str
    consumer: str
    sequence: int
    number: int
    """The how-manieth delivery of it, from 1."""
    stored: datetime
    """When the server stored it."""
    pending: int
    """Messages of the consumer not yet delivered, after this one."""
    token: str
    """What settles it; opaque."""


@dataclass(frozen=True, slots=True)
class ConsumerState:
    """A consumer's figures. Its depth is `waiting + unacknowledged`."""

    waiting: int
    unacknowledged: int
    redelivered: int
    paused: bool
    config: Mapping[str, Any]

    @property
    def depth(self) -> int:
        """Messages waiting, plus messages pulled and not yet acknowledged."""
        return self.waiting + self.unacknowledged


class Puller(Protocol):
    """Pulls by credit from one durable consumer: no message arrives that was not asked for."""

    @property
    def credit(self) -> int:
        """Messages asked for and not yet received."""
        ...

    def grant(self, count: int) -> None:
        """Ask for `count` more messages. Lost requests (expiry, reconnect, restart) are made again by the puller."""
        ...

    def revoke(self) -> None:
        """Withdraw all credit. What is already on its way still arrives."""
        ...

    async def receive(self) -> Delivery:
        """The next message."""
        ...

    async def receive_many(self) -> list[Delivery]:
        """All messages that are here, in order of arrival; waits for the first."""
        ...


class Bus(Protocol):
    """A bus of streams. Every method may raise `Disconnected` and, where it waits for an answer, `NoAnswer`."""

    @property
    def connected(self) -> bool:
        """Whether messages can be sent now."""
        ...

    @property
    def server_version(self) -> str:
        """What the server calls itself."""
        ...

    def server_now(self) -> datetime:
        """The server's clock in UTC, as far as it is known here."""
        ...

    async def publish(self, subject: str, body: bytes, headers: Mapping[str, str] | None = None) -> PubAck:
        """Store a message and wait for the server's word. Raises `Refused` and its kin, `TooLarge`, `NoAnswer`."""
        ...

    async def publish_many(self, messages: Sequence[Outgoing]) -> list[PubAck | BusError]:
        """Store messages, each for itself, and wait for the server's word on all: each one's answer, in their order.

        They are stored in their order, too, but for those that are not stored at all. What `publish` would raise for a
        message stands in its place. Nothing is raised.
        """
        ...

    async def last(self, stream: str, subject: str) -> Stored | None:
        """The last message on a subject filter, read from the leader."""
        ...

    async def get(self, stream: str, sequence: int) -> Stored | None:
        """One message by its sequence, read from the leader; None where it is gone."""
        ...

    def follow(self, stream: str, subject: str, *, after: int = 0) -> AsyncGenerator[Stored, None]:
        """Every message on a subject filter with a sequence greater than `after`, in order, for ever.

        Survives reconnects and restarts of the server without a gap or a repetition.
        """
        ...

    def pull(self, stream: str, consumer: str) -> AbstractAsyncContextManager[Puller]:
        """A puller on a durable consumer."""
        ...

    async def ack(self, delivery: Delivery) -> None:
        """Settle: done. Sent, not confirmed."""
        ...

    async def ack_many(self, deliveries: Sequence[Delivery]) -> None:
        """Settle: done, for each. Sent, not confirmed."""
        ...

    async def nak(self, delivery: Delivery, delay_s: float = 0.0) -> None:
        """Settle: deliver again, after `delay_s` seconds at the earliest. Sent, not confirmed."""
        ...

    async def in_progress(self, delivery: Delivery) -> None:
        """Renew the lease. Returns once the server has confirmed."""
        ...

    async def apply(self, topology: Topology) -> None:
        """Create or update streams and consumers. Raises `topology.Foreign` where a stream of our name is not ours."""
        ...

    async def owner(self, subject: str) -> str | None:
        """The stream that owns a subject; None where nobody does."""
        ...

    async def consumer(self, stream: str, consumer: str) -> ConsumerState:
        """A consumer's figures and configuration."""
        ...

    async def leftover(self, stream: str, consumer: str, *, after: int = 0) -> Delivery | None:
        """The first message past `after` that a work queue's consumer has done with, and that is there all the same.

        A server whose disk was full may have forgotten the removal and kept the acknowledgement: it delivers the
        message to nobody. As a delivery, so that it can be acknowledged once more, which removes it.
        """
        ...

    async def put(self, bucket: str, key: str, value: bytes) -> None:
        """Set a key of a KV bucket."""
        ...

    async def value(self, bucket: str, key: str) -> bytes | None:
        """A key's value in a KV bucket; None where it has none."""
        ...
