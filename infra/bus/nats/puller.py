"""Pull by credit from a durable consumer.

A request to `$JS.API.CONSUMER.MSG.NEXT` asks for many messages. They come on their own subjects, so none can be told to
belong to one request; only the total is counted. A request ends when it is filled, or with a status that says how much
of it was left unfilled, which is then asked for again. When requests may have been lost (heartbeats stop, the
connection broke) the inbox is left for a new one: a server drops requests in whose inbox nobody is interested.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Final

from nats.errors import Error as NatsError

from infra.bus.base import Delivery
from infra.bus.nats.answers import delivery

if TYPE_CHECKING:
    from nats.aio.subscription import Subscription

    from infra.bus.nats.client import Arrived, DirectClient

__all__ = ["NatsPuller"]

log = logging.getLogger("jetray.bus")

EXPIRES_S: Final = 30.0
HEARTBEAT_S: Final = 5.0
RETRY_S: Final = 1.0
"""Between requests that the server refuses, as while the consumer does not exist."""


class NatsPuller:
    """See `infra.bus.base.Puller`. Its `serve` must be running."""

    def __init__(self, client: DirectClient, stream: str, consumer: str) -> None:
        self._client = client
        self._name = f"{stream}/{consumer}"
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._arrived: deque[Delivery] = deque()
        self._arrival = asyncio.Event()
        self._failure: BaseException | None = None
        self._inbox = ""
        self._subscription: Subscription | None = None
        self._requested = 0
        self._unasked = 0
        self._heard = 0.0
        self._not_before = 0.0
        self._work = asyncio.Event()

    @property
    def credit(self) -> int:
        """Messages asked for and not yet received."""
        return self._unasked + self._requested + len(self._arrived)

    def grant(self, count: int) -> None:
        """Ask for `count` more messages."""
        self._unasked += count
        self._work.set()

    def revoke(self) -> None:
        """Withdraw all credit. What is already on its way still arrives."""
        self._unasked = self._requested = 0
        self._leave_inbox()

    async def receive(self) -> Delivery:
        """The next message."""
        await self._some()
        return self._arrived.popleft()

    async def receive_many(self) -> list[Delivery]:
        """All messages that are here; waits for the first."""
        await self._some()
        arrived = [*self._arrived]
        self._arrived.clear()
        return arrived

    def lost(self) -> None:
        """The connection was lost, and every request with it."""
        self._unasked += self._requested
        self._requested = 0
        self._leave_inbox()

    def served(self, task: asyncio.Task[None]) -> None:
        """`serve` has ended. Of what it died of whoever receives hears: nothing would ever arrive again."""
        if not task.cancelled():
            self._failure = task.exception()
            self._arrival.set()

    async def serve(self, subscribed: asyncio.Event) -> None:
        """Keep the credit asked for, until cancelled."""
        try:
            while True:
                await self._renew_inbox()
                subscribed.set()
                await self._ask()
                await self._wait()
                self._give_up_silence()
        finally:
            if self._subscription is not None and self._client.is_connected:
                await self._subscription.unsubscribe()

    async def _some(self) -> None:
        while not self._arrived:
            if self._failure is not None:
                raise self._failure
            self._arrival.clear()
            await self._arrival.wait()

    def _leave_inbox(self) -> None:
        self._inbox = ""
        self._work.set()

    async def _renew_inbox(self) -> None:
        if self._inbox or not self._client.is_connected:
            return
        old, self._inbox = self._subscription, self._client.new_inbox()
        self._subscription = await self._client.subscribe_direct(f"{self._inbox}.>", self._received)
        if old is not None:
            # That takes what is still on its way to the old inbox; dropped, it would wait out its lease.
            await self._client.leave(old)

    async def _ask(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._unasked == 0 or not self._inbox or not self._client.is_connected or now < self._not_before:
            return
        count, self._unasked = self._unasked, 0
        self._requested += count
        self._heard = now
        request = (
            f'{{"batch":{count},"expires":{int(EXPIRES_S * 1e9)},"idle_heartbeat":{int(HEARTBEAT_S * 1e9)}}}'.encode()
        )
        try:
            await self._client.publish(self._next, request, reply=f"{self._inbox}.{now}")
        except NatsError as error:
            log.debug("pull from %s was not sent: %s", self._name, error)
            self._put_back(count)

    async def _wait(self) -> None:
        idle = self._requested == 0 and self._unasked == 0
        try:
            async with asyncio.timeout(None if idle else RETRY_S):
                await self._work.wait()
        except TimeoutError:
            return
        self._work.clear()

    def _give_up_silence(self) -> None:
        if self._requested and self._heard < asyncio.get_running_loop().time() - 2 * HEARTBEAT_S:
            log.info("pull from %s fell silent; asking again", self._name)
            self.lost()

    def _put_back(self, count: int) -> None:
        returned = min(count, self._requested)
        self._requested -= returned
        self._unasked += returned
        self._work.set()

    def _received(self, message: Arrived) -> None:
        if not message.reply.startswith("$JS.ACK"):
            self._status(message)
            return
        self._heard = asyncio.get_running_loop().time()
        # Also what was asked for in an inbox left since: it is leased to this consumer, wanted or not.
        self._arrived.append(delivery(message))
        self._arrival.set()
        if self._requested:
            self._requested -= 1
        elif self._unasked:
            self._unasked -= 1

    def _status(self, message: Arrived) -> None:
        if not message.subject.startswith(f"{self._inbox}.") or not self._inbox:
            return
        self._heard = asyncio.get_running_loop().time()
        headers = message.headers or {}
        status = headers.get("Status", "")
        if status == "100":
            return
        if status not in ("404", "408"):
            # Of "no responders" nats-py takes the next header for the description, line end and all.
            description = " ".join(headers.get("Description", "").split())
            log.warning("pull from %s was refused: %s %s", self._name, status, description)
            self._not_before = self._heard + RETRY_S
        # Unfilled credit, not backlog.
        self._put_back(int(headers.get("Nats-Pending-Messages", self._requested)))
