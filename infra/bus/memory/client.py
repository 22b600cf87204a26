"""One client's connection to the server in memory. It can be cut and mended, as a network is."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TypeVar

import anyio
import anyio.lowlevel

from infra.bus.base import (
    BusError,
    ConsumerState,
    Delivery,
    Disconnected,
    NoAnswer,
    Outgoing,
    PubAck,
    Puller,
    Refused,
    Stored,
    TooLarge,
)
from infra.bus.memory.consumer import Consumer
from infra.bus.memory.faults import Faults
from infra.bus.memory.puller import MemoryPuller
from infra.bus.memory.server import MemoryServer
from infra.bus.memory.stream import as_time
from infra.bus.memory.wire import HEADER_BYTES, as_sent, block_size
from infra.bus.topology import Topology

__all__ = ["MemoryBus"]

T = TypeVar("T")


class MemoryBus:
    """See `infra.bus.base.Bus`. Several share one server, as several gateways do."""

    def __init__(self, server: MemoryServer, *, faults: Faults | None = None) -> None:
        self.server = server
        self.faults = faults or Faults()
        self._pullers: dict[MemoryPuller, None] = {}
        self._cuts = 0
        self._online = anyio.Event()
        self._online.set()

    def __repr__(self) -> str:
        return f"MemoryBus({'connected' if self.connected else 'disconnected'})"

    def disconnect(self) -> None:
        """Cut the connection. Calls under way end in `NoAnswer`; what has arrived can still be received."""
        if not self.connected:
            return
        self._cuts += 1
        self._online = anyio.Event()
        for puller in self._pullers:
            puller.cut()

    def reconnect(self) -> None:
        """Mend it. Pullers ask again for what they had asked for."""
        self._online.set()
        for puller in self._pullers:
            puller.ask()

    @property
    def connected(self) -> bool:
        """Whether messages can be sent now."""
        return self._online.is_set()

    @property
    def server_version(self) -> str:
        """What the server calls itself."""
        return self.server.version

    def server_now(self) -> datetime:
        """The server's clock in UTC."""
        return as_time(anyio.current_time())

    async def publish(self, subject: str, body: bytes, headers: Mapping[str, str] | None = None) -> PubAck:
        """Store a message and wait for the server's word."""
        return await self._publish(Outgoing(subject, body, headers or {}), anyio.Event())

    async def _publish(self, message: Outgoing, arrived: anyio.Event, ahead: anyio.Event | None = None) -> PubAck:
        """Sets `arrived` once the server has seen the message, which it does after the one `ahead`."""
        subject, body = message.subject, message.body
        if subject.split() != [subject]:
            raise ValueError(f"{subject!r} is no subject: it is empty or holds white space")
        sent = as_sent(subject, message.headers)
        self._check_connected()
        self._check_size(subject, block_size(sent), len(body))

        def store() -> PubAck:
            arrived.set()
            return self.server.publish(subject, body, sent)

        return await self._call("publish", subject, store, ahead)

    async def publish_many(self, messages: Sequence[Outgoing]) -> list[PubAck | BusError]:
        """Store messages, each for itself, and wait for the server's word on all: each one's answer, in their order."""
        found: list[PubAck | BusError | None] = [None] * len(messages)

        async def one(index: int, message: Outgoing, arrived: anyio.Event, ahead: anyio.Event | None) -> None:
            try:
                found[index] = await self._publish(message, arrived, ahead)
            except BusError as error:
                found[index] = error
            finally:
                arrived.set()

        ahead: anyio.Event | None = None
        async with anyio.create_task_group() as group:
            for index, message in enumerate(messages):
                arrived = anyio.Event()
                group.start_soon(one, index, message, arrived, ahead)
                ahead = arrived
        return [answer for answer in found if answer is not None]

    async def last(self, stream: str, subject: str) -> Stored | None:
        """The last message on a subject filter."""

        def read() -> Stored | None:
            kept = self.server.stream(stream)
            return kept.get(kept.last(subject))

        return await self._call("last", subject, read)

    async def get(self, stream: str, sequence: int) -> Stored | None:
        """One message by its sequence; None where it is gone."""
        return await self._call("get", f"{stream}:{sequence}", lambda: self.server.stream(stream).get(sequence))

    async def follow(self, stream: str, subject: str, *, after: int = 0) -> AsyncGenerator[Stored, None]:
        """Every message on a subject filter with a sequence greater than `after`, in order, for ever."""
        seen = after
        while True:
            await self._online.wait()
            kept = self.server.stream(stream)
            if kept.config["retention"] == "workqueue":
                raise Refused(400, 10098, "workqueue stream requires explicit ack")
            changed, end = kept.changed, kept.last_sequence
            for sequence in list(kept.after(seen, subject)):
                await anyio.lowlevel.checkpoint()
                if not self.connected:
                    break
                seen = sequence
                message = kept.get(sequence)
                if message is not None:
                    yield message
            else:
                seen = max(seen, end)
                await changed.wait()

    @asynccontextmanager
    async def pull(self, stream: str, consumer: str) -> AsyncIterator[Puller]:
        """A puller on a durable consumer."""
        puller = MemoryPuller(self, stream, consumer)
        self._pullers[puller] = None
        try:
            yield puller
        finally:
            self._pullers.pop(puller, None)
            puller.cut()

    async def ack(self, delivery: Delivery) -> None:
        """Settle: done. Sent, not confirmed."""
        await self._send("ack", delivery, lambda consumer, now: consumer.ack(delivery.sequence, now))

    async def ack_many(self, deliveries: Sequence[Delivery]) -> None:
        """Settle: done, for each. Sent, not confirmed."""
        for delivery in deliveries:
            await self.ack(delivery)

    async def nak(self, delivery: Delivery, delay_s: float = 0.0) -> None:
        """Settle: deliver again, after `delay_s` seconds at the earliest. Sent, not confirmed."""
        await self._send("nak", delivery, lambda consumer, now: consumer.nak(delivery.sequence, delay_s, now))

    async def in_progress(self, delivery: Delivery) -> None:
        """Renew the lease. Returns once the server has confirmed, as it does also where nothing is left to renew."""
        await self._call(
            "in_progress",
            delivery.subject,
            lambda: self._settle(delivery, lambda consumer, now: consumer.in_progress(delivery.sequence, now)),
        )

    async def apply(self, topology: Topology) -> None:
        """Create or update streams and consumers. Raises `topology.Foreign`."""
        await self._call("apply", "", lambda: self.server.apply(topology))

    async def owner(self, subject: str) -> str | None:
        """The stream that owns a subject; None where nobody does."""
        return await self._call("owner", subject, lambda: self.server.owner(subject))

    async def consumer(self, stream: str, consumer: str) -> ConsumerState:
        """A consumer's figures and configuration."""
        return await self._call(
            "consumer",
            f"{stream}.{consumer}",
            lambda: self.server.consumer(stream, consumer).state(anyio.current_time()),
        )

    async def leftover(self, stream: str, consumer: str, *, after: int = 0) -> Delivery | None:
        """The first message past `after` that a work queue's consumer has done with, and that is there all the same."""
        return await self._call(
            "leftover",
            f"{stream}.{consumer}",
            lambda: self.server.consumer(stream, consumer).leftover(after, anyio.current_time()),
        )

    async def put(self, bucket: str, key: str, value: bytes) -> None:
        """Set a key of a KV bucket."""
        await self.publish(f"$KV.{bucket}.{key}", value)

    async def value(self, bucket: str, key: str) -> bytes | None:
        """A key's value in a KV bucket; None where it has none."""
        found = await self.last(f"KV_{bucket}", f"$KV.{bucket}.{key}")
        if found is None or found.headers.get("KV-Operation") in ("DEL", "PURGE"):
            return None
        return found.body

    async def _call(self, op: str, subject: str, act: Callable[[], T], ahead: anyio.Event | None = None) -> T:
        """A request and its answer. When the connection is cut in between, nobody knows whether it was carried out.

        It reaches the server after `ahead`: what goes over one connection stays in its order.
        """
        self._check_connected()
        cuts = self._cuts
        await self.faults.before(op, subject)
        if ahead is not None:
            await ahead.wait()
        self._check_not_cut_since(cuts)
        answer = act()
        await self.faults.after(op, subject)
        self._check_not_cut_since(cuts)
        return answer

    async def _send(self, op: str, delivery: Delivery, settle: Callable[[Consumer, float], None]) -> None:
        """A message without an answer: whether it arrives is never known."""
        self._check_connected()
        cuts = self._cuts
        try:
            await self.faults.before(op, delivery.subject)
        except NoAnswer:
            return
        if cuts == self._cuts:
            self._settle(delivery, settle)

    def _settle(self, delivery: Delivery, settle: Callable[[Consumer, float], None]) -> None:
        try:
            consumer = self.server.consumer(delivery.stream, delivery.consumer)
        except Refused:
            # Nobody listens where the consumer is gone, and nobody says so.
            return
        settle(consumer, anyio.current_time())

    def _check_connected(self) -> None:
        if not self.connected:
            raise Disconnected("not connected to the server in memory")

    def _check_size(self, subject: str, headers: int, body: int) -> None:
        for size, limit in ((headers, HEADER_BYTES), (headers + body, self.server.max_payload)):
            if size > limit:
                raise TooLarge(subject, size, limit)

    def _check_not_cut_since(self, cuts: int) -> None:
        if cuts != self._cuts:
            raise NoAnswer("the connection was lost before the answer came")
