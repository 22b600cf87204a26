"""Requests whose answers, errors included, resolve futures: one inbox subscription, one token a request."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from nats.aio.msg import Msg
from nats.errors import BadHeaderError, BadSubjectError, OutboundBufferLimitError
from nats.errors import Error as NatsError

from infra.bus.base import Disconnected, NoAnswer, TooLarge

if TYPE_CHECKING:
    from nats.aio.client import Client

__all__ = ["Requests", "headers_size"]

HEADERS_LIMIT: Final = 65_535
"""JetStream stores no message with more bytes of headers."""


class Requests:
    """Sends messages that want an answer.

    Await `open` before the first request. Call `fail_all` when the connection is lost: answers to what was sent before
    go to nobody.
    """

    def __init__(self, client: Client, *, timeout_s: float) -> None:
        self._client = client
        self._timeout = timeout_s
        self._prefix = ""
        self._waiting: dict[str, asyncio.Future[Msg]] = {}
        self._counter = 0

    async def open(self) -> None:
        """Subscribe the inbox."""
        self._prefix = self._client.new_inbox()
        # No limits: a dropped answer would be a request that waits in vain.
        await self._client.subscribe(
            f"{self._prefix}.*", cb=self._answered, pending_msgs_limit=0, pending_bytes_limit=0
        )

    async def request(
        self,
        subject: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> Msg:
        """The answer to a message. Raises `Disconnected`, `TooLarge` and `NoAnswer`."""
        self._counter += 1
        reply = f"{self._prefix}.{self._counter}"
        future: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        self._waiting[reply] = future
        try:
            await self.send(subject, body, headers, reply=reply)
            async with asyncio.timeout(timeout_s or self._timeout):
                return await future
        except TimeoutError as error:
            raise NoAnswer(f"no answer to {subject} within {timeout_s or self._timeout} s") from error
        finally:
            del self._waiting[reply]

    async def send(
        self, subject: str, body: bytes = b"", headers: Mapping[str, str] | None = None, *, reply: str = ""
    ) -> None:
        """Send without waiting. Raises `Disconnected` and `TooLarge`, and then nothing was sent."""
        if not self._client.is_connected:
            raise Disconnected("not connected to NATS")
        in_headers = headers_size(headers) if headers else 0
        if in_headers > HEADERS_LIMIT:
            raise TooLarge(subject, in_headers, HEADERS_LIMIT)
        size = len(body) + in_headers
        if size > self._client.max_payload:
            # The server would reset the connection, and nats-py would stay closed for good.
            raise TooLarge(subject, size, self._client.max_payload)
        try:
            await self._client.publish(subject, body, reply=reply, headers=dict(headers) if headers else None)
        except (BadHeaderError, BadSubjectError) as error:
            raise ValueError(f"message to {subject}: {error}") from error
        except (OutboundBufferLimitError, NatsError) as error:
            raise Disconnected(f"not connected to NATS: {error!r}") from error

    def fail_all(self) -> None:
        """The connection is lost: nobody knows what became of the open requests."""
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(NoAnswer("the connection was lost before the answer came"))

    async def _answered(self, message: Msg) -> None:
        future = self._waiting.get(message.subject)
        if future is not None and not future.done():
            future.set_result(message)


def headers_size(headers: Mapping[str, str]) -> int:
    """Bytes that headers take on the wire."""
    return 12 + sum(len(name.encode()) + len(value.encode()) + 4 for name, value in headers.items())
