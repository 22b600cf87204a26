"""nats-py's client, with a shorter way for what comes in thousands: answers to requests, and messages pulled.

nats-py hands each message to the task of its subscription, through a queue. A direct subscription's messages are handed
over where they are read instead, which takes a third of the time. It rests on methods of nats-py's that are not
public; where a later release calls them no more, the messages still come, by nats-py's own way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import Struct
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from infra.bus.nats.answers import parse_headers

__all__ = ["Arrived", "DirectClient"]

LEAVE_S: Final = 2.0
"""How long a subscription that is left may hold up whoever leaves it."""
_PLAIN: Final = b"NATS/1.0\r\n"
"""How headers begin that hold no status."""


class Arrived(Struct, gc=False):
    """A message, as a direct subscription takes it."""

    subject: str
    reply: str
    headers: dict[str, str] | None
    data: bytes


class DirectClient(Client):
    """A `Client` that knows direct subscriptions."""

    def __init__(self) -> None:
        super().__init__()
        self._direct: dict[int, Callable[[Arrived], None]] = {}

    async def subscribe_direct(self, subject: str, take: Callable[[Arrived], None]) -> Subscription:
        """Have each message on `subject` handed to `take`, at once."""

        async def take_from_queue(message: Msg) -> None:
            take(Arrived(message.subject, message.reply, message.headers, message.data))

        # No limits: a dropped message would be an answer that is waited for in vain, or a job held by nobody.
        subscription = await self.subscribe(subject, cb=take_from_queue, pending_msgs_limit=0, pending_bytes_limit=0)
        self._direct = {sid: taker for sid, taker in self._direct.items() if sid in self._subs}
        self._direct[subscription._id] = take
        return subscription

    async def leave(self, subscription: Subscription) -> None:
        """Unsubscribe, once what is on its way has come, if the server says so soon."""
        try:
            async with asyncio.timeout(LEAVE_S):
                await subscription.drain()  # type: ignore[no-untyped-call]
        except (NatsError, TimeoutError):
            # Where the connection breaks meanwhile nats-py waits in vain, and would keep what it had not yet drained.
            subscription._stop_processing()
            self._remove_sub(subscription._id)

    async def write(self, frames: Sequence[bytes]) -> None:
        """Send what `framing.framed` made, all of it in one go. Raises nats-py's errors."""
        self.stats["out_msgs"] += len(frames)
        await self._send_command(b"".join(frames))
        if self._flush_queue is not None and self._flush_queue.empty():
            await self._flush_pending()

    async def _process_pong(self) -> None:
        if self._pongs and self._pongs[0].done():
            # Whoever waited for it has given up. nats-py would stumble over that, and read nothing any more.
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: Any) -> None:
        take = self._direct.get(sid)
        if take is None or sid not in self._subs or (headers and not headers.startswith(_PLAIN)):
            await super()._process_msg(sid, subject, reply, data, headers)
            return
        self.stats["in_msgs"] += 1
        try:
            take(Arrived(subject.decode(), reply.decode(), parse_headers(headers) if headers else None, data))
        except Exception as error:  # noqa: BLE001 - as nats-py does with what a callback raises: the connection goes on
            await self._error_cb(error)
