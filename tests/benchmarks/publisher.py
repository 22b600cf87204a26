"""Publishes many messages fast, and counts what the server says of each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

import nats
from msgspec import Struct, field
from nats.aio.client import Client
from nats.aio.msg import Msg

__all__ = ["Message", "Publisher", "Unacknowledged", "fill"]

WINDOW: Final = 4_000
"""Publishes that may wait for their acknowledgements at once."""
ANSWER_S: Final = 30.0


class Message(Struct, frozen=True, gc=False):
    """One message to publish."""

    subject: str
    body: bytes
    headers: Mapping[str, str] | None = None


class Unacknowledged(Exception):
    """The server refused a publish, or did not answer."""


class Publisher(Struct):
    """Sends on a connection of its own, and sorts the answers."""

    client: Client
    accepted: set[int] = field(default_factory=set)
    """Numbers of the messages that were stored, in order of sending from 0."""
    refused: dict[int, bytes] = field(default_factory=dict)
    """Number to the server's words, of the others."""
    sent: int = 0
    inbox: str = ""
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    async def open(self) -> None:
        """Subscribe for the answers."""
        self.inbox = self.client.new_inbox()
        await self.client.subscribe(f"{self.inbox}.*", cb=self._heard, pending_msgs_limit=0, pending_bytes_limit=0)

    @property
    def waiting(self) -> int:
        """Messages of which nothing was heard yet."""
        return self.sent - len(self.accepted) - len(self.refused)

    async def send(self, message: Message) -> None:
        """Send one, once there is room in the window."""
        while self.waiting >= WINDOW:
            await self._any_answer()
        number, self.sent = self.sent, self.sent + 1
        await self.client.publish(
            message.subject,
            message.body,
            reply=f"{self.inbox}.{number}",
            headers=dict(message.headers) if message.headers else None,
        )

    async def settle(self) -> None:
        """Return once everything is answered. Raises `Unacknowledged` where the server falls silent."""
        await self.client.flush()
        while self.waiting:
            await self._any_answer()

    async def _any_answer(self) -> None:
        self.answered.clear()
        await self.client.flush()
        try:
            async with asyncio.timeout(ANSWER_S):
                await self.answered.wait()
        except TimeoutError:
            raise Unacknowledged(f"{self.waiting} publishes got no answer within {ANSWER_S:.0f} s") from None

    async def _heard(self, message: Msg) -> None:
        number = int(message.subject.rpartition(".")[2])
        if message.headers or b'"error"' in message.data or b'"seq"' not in message.data:
            status = (message.headers or {}).get("Status", "")
            self.refused[number] = message.data or f"status {status}".encode()
        else:
            self.accepted.add(number)
        self.answered.set()


async def fill(url: str, messages: Iterable[Message]) -> int:
    """Publish all of them; how many. Raises `Unacknowledged` unless each is stored."""
    client = await nats.connect(url, pending_size=16 * 1024 * 1024, flusher_queue_size=WINDOW)
    try:
        publisher = Publisher(client)
        await publisher.open()
        for message in messages:
            await publisher.send(message)
        await publisher.settle()
        for number, words in publisher.refused.items():
            raise Unacknowledged(
                f"{len(publisher.refused)} publishes were refused; the one of number {number}: {words!r}"
            )
        return publisher.sent
    finally:
        await client.close()
