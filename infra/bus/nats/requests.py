"""Requests whose answers, errors included, come back in order: one inbox subscription, one token a set of requests.

Requests that belong together are written and waited for together: most of what a request costs is then paid once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from nats.errors import Error as NatsError

from infra.bus.base import BusError, Disconnected, NoAnswer, Outgoing, TooLarge
from infra.bus.nats.framing import framed, header_block

if TYPE_CHECKING:
    from infra.bus.nats.client import Arrived, DirectClient

__all__ = ["Requests"]

HEADERS_LIMIT: Final = 65_535
"""JetStream stores no message with more bytes of headers."""


class Requests:
    """Sends messages that want an answer.

    Await `open` before the first request. Call `fail_all` when the connection is lost: answers to what was sent before
    go to nobody.
    """

    def __init__(self, client: DirectClient, *, timeout_s: float) -> None:
        self._client = client
        self._timeout = timeout_s
        self._prefix = ""
        self._open: dict[str, _Open] = {}
        self._counter = 0

    async def open(self) -> None:
        """Subscribe the inbox."""
        self._prefix = self._client.new_inbox()
        await self._client.subscribe_direct(f"{self._prefix}.*.*", self._answered)

    async def request(
        self,
        subject: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> Arrived:
        """The answer to a message. Raises `Disconnected`, `TooLarge` and `NoAnswer`."""
        (answer,) = await self.request_many([Outgoing(subject, body, headers or {})], timeout_s=timeout_s)
        if isinstance(answer, BusError):
            raise answer
        return answer

    async def request_many(
        self, messages: Sequence[Outgoing], *, timeout_s: float | None = None
    ) -> list[Arrived | BusError]:
        """The answer to each message, or why there is none: `Disconnected`, `TooLarge` or `NoAnswer`."""
        timeout_s = timeout_s or self._timeout
        self._counter += 1
        token = f"{self._prefix}.{self._counter}"
        requests = self._open[token] = _Open(len(messages))
        try:
            await self._write(messages, token, requests)
            if requests.missing:
                async with asyncio.timeout(timeout_s):
                    await requests.all_answered
        except TimeoutError:
            requests.fail(lambda: NoAnswer(f"no answer to {messages[0].subject} within {timeout_s} s"))
        finally:
            del self._open[token]
        return [answer for answer in requests.answers if answer is not None]

    async def send(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Send bodies to subjects, without waiting. Raises `Disconnected`, and then nothing was sent."""
        await self._send([framed(subject, "", b"", body) for subject, body in messages])

    def fail_all(self) -> None:
        """The connection is lost: nobody knows what became of the open requests."""
        for requests in self._open.values():
            requests.fail(lambda: NoAnswer("the connection was lost before the answer came"))

    async def _write(self, messages: Sequence[Outgoing], token: str, requests: _Open) -> None:
        frames: list[bytes] = []
        for index, message in enumerate(messages):
            try:
                block = header_block(message.headers)
            except ValueError as error:
                raise ValueError(f"message to {message.subject}: {error}") from error
            try:
                self._check_size(message, len(block))
            except TooLarge as error:
                requests.take(index, error)
            else:
                frames.append(framed(message.subject, f"{token}.{index}", block, message.body))
        if not frames:
            return
        try:
            await self._send(frames)
        except Disconnected as error:
            text = str(error)
            requests.fail(lambda: Disconnected(text))

    async def _send(self, frames: Sequence[bytes]) -> None:
        if not self._client.is_connected:
            raise Disconnected("not connected to NATS")
        try:
            await self._client.write(frames)
        except NatsError as error:
            raise Disconnected(f"not connected to NATS: {error!r}") from error

    def _check_size(self, message: Outgoing, in_headers: int) -> None:
        if in_headers > HEADERS_LIMIT:
            raise TooLarge(message.subject, in_headers, HEADERS_LIMIT)
        size, limit = in_headers + len(message.body), self._client.max_payload
        if size > limit:
            # The server would reset the connection, and nats-py would stay closed for good.
            raise TooLarge(message.subject, size, limit)

    def _answered(self, message: Arrived) -> None:
        token, _, index = message.subject.rpartition(".")
        requests = self._open.get(token)
        if requests is not None:
            requests.take(int(index), message)


class _Open:
    """Requests that are waited for together."""

    __slots__ = ("all_answered", "answers", "missing")

    def __init__(self, count: int) -> None:
        self.answers: list[Arrived | BusError | None] = [None] * count
        self.missing = count
        self.all_answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def take(self, index: int, answer: Arrived | BusError) -> None:
        """The first answer to a request counts."""
        if self.answers[index] is None:
            self.answers[index] = answer
            self.missing -= 1
            if not self.missing and not self.all_answered.done():
                self.all_answered.set_result(None)

    def fail(self, error: Callable[[], BusError]) -> None:
        """End those that are not answered, each with an error of its own."""
        for index, answer in enumerate(self.answers):
            if answer is None:
                self.take(index, error())
