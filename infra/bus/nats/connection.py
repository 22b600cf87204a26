"""`connect`, and `NatsBus`, which is the bus."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import NoServersError
from nats.js import JetStreamContext

from infra.bus.base import (
    BusError,
    ConsumerState,
    Delivery,
    Disconnected,
    NoAnswer,
    NoSuchSubject,
    Outgoing,
    PubAck,
    Puller,
    Refused,
    Stored,
)
from infra.bus.nats import answers
from infra.bus.nats.client import Arrived, DirectClient
from infra.bus.nats.follower import follow
from infra.bus.nats.manage import Manager
from infra.bus.nats.puller import NatsPuller
from infra.bus.nats.requests import Requests
from infra.bus.topology import Topology

__all__ = ["NatsBus", "connect"]

log = logging.getLogger("jetray.bus")

PING_S: Final = 10
ANSWER_S: Final = 5.0
READ_S: Final = 2.0
"""For reads, which can be asked again: while a stream has no leader, nobody answers them."""
ASK_AGAIN_S: Final = 0.5
"""Between two tries of the first question to JetStream."""


@asynccontextmanager
async def connect(
    url: str,
    *,
    name: str,
    credentials: str | None = None,
    inbox_prefix: str = "_INBOX",
    tls: ssl.SSLContext | None = None,
    answer_timeout_s: float = ANSWER_S,
    wait: bool = True,
) -> AsyncIterator[NatsBus]:
    """The bus behind `url` (several, with commas, for a cluster), for as long as the block lasts.

    Where nobody listens it waits, and says so in the log once; with `wait=False` it raises `Disconnected`.
    """
    bus = NatsBus(url, answer_timeout_s)
    try:
        await bus.open(name=name, credentials=credentials, inbox_prefix=inbox_prefix, tls=tls, wait=wait)
        yield bus
    finally:
        await bus.close()


class NatsBus:
    """See `infra.bus.base.Bus`. Made by `connect`."""

    def __init__(self, url: str, answer_timeout_s: float) -> None:
        self._url = url
        self._answer_timeout_s = answer_timeout_s
        self._client = DirectClient()
        self._requests = Requests(self._client, timeout_s=answer_timeout_s)
        self._manager = Manager(self.api)
        self._pullers: set[NatsPuller] = set()
        self._followers: set[asyncio.Queue[Any]] = set()
        self._clock_ahead = timedelta(0)
        self._complained = False

    def __repr__(self) -> str:
        return f"NatsBus({self._url}, {'connected' if self.connected else 'disconnected'})"

    async def open(
        self, *, name: str, credentials: str | None, inbox_prefix: str, tls: ssl.SSLContext | None, wait: bool
    ) -> None:
        """Connect and subscribe."""
        try:
            await self._client.connect(
                servers=self._url.split(","),
                name=name,
                user_credentials=credentials,
                inbox_prefix=inbox_prefix,
                tls=tls,
                allow_reconnect=True,
                max_reconnect_attempts=-1 if wait else 1,
                reconnect_time_wait=1,
                ping_interval=PING_S,
                max_outstanding_pings=2,
                pending_size=0,
                error_cb=self._on_error,
                disconnected_cb=self._on_disconnected,
                reconnected_cb=self._on_reconnected,
            )
        except (NoServersError, OSError) as error:
            raise Disconnected(f"no NATS server at {self._url}: {error}") from error
        self._client.options["max_reconnect_attempts"] = -1
        await self._requests.open()
        await self._read_clock(wait)

    async def close(self) -> None:
        """Close the connection. What was sent and not yet flushed is flushed."""
        connected = self.connected
        try:
            await self._client.close()
        except RuntimeError:
            # Without a connection nats-py closes a transport that is closed, which uvloop does not take.
            if connected:
                raise
        except ConnectionError:
            # It broke in this very moment: there is nobody to flush to, and nothing has been cleaned up yet.
            self._client._status = Client.DISCONNECTED
            await self._client.close()

    @property
    def connected(self) -> bool:
        """Whether messages can be sent now."""
        return self._client.is_connected

    @property
    def server_version(self) -> str:
        """What the server calls itself."""
        return str(self._client._server_info.get("version", "unknown"))

    def server_now(self) -> datetime:
        """The server's clock in UTC: ours, plus what an answer of the server's showed it to be ahead."""
        return datetime.now(UTC) + self._clock_ahead

    async def publish(self, subject: str, body: bytes, headers: Mapping[str, str] | None = None) -> PubAck:
        """Store a message and wait for the server's word."""
        (answer,) = await self.publish_many([Outgoing(subject, body, headers or {})])
        if isinstance(answer, BusError):
            raise answer
        return answer

    async def publish_many(self, messages: Sequence[Outgoing]) -> list[PubAck | BusError]:
        """Store messages, each for itself, and wait for the server's word on all: each one's answer, in their order."""
        found = [_word_on(answer) for answer in await self._requests.request_many(messages)]
        # Side by side: where nobody leads, each of these questions may take its whole time.
        nowhere = [(index, answer) for index, answer in enumerate(found) if isinstance(answer, NoSuchSubject)]
        asking = [self._nobody_takes(messages[index].subject, answer) for index, answer in nowhere]
        for (index, _), error in zip(nowhere, await asyncio.gather(*asking), strict=True):
            found[index] = error
        return found

    async def _nobody_takes(self, subject: str, error: NoSuchSubject) -> BusError:
        """No stream has this subject; nor does a stream of a cluster take anything while nobody leads it."""
        try:
            stream = await self._manager.owner(subject)
        except BusError as unknown:
            return unknown
        if stream is None:
            return error
        return NoAnswer(f"stream {stream}, which takes {subject}, has no leader just now")

    async def last(self, stream: str, subject: str) -> Stored | None:
        """The last message on a subject filter, read from the leader."""
        return await self._read(stream, {"last_by_subj": subject})

    async def get(self, stream: str, sequence: int) -> Stored | None:
        """One message by its sequence, read from the leader."""
        return await self._read(stream, {"seq": sequence})

    async def follow(self, stream: str, subject: str, *, after: int = 0) -> AsyncGenerator[Stored, None]:
        """Every message on a subject filter with a sequence greater than `after`, in order, for ever."""
        queues: list[asyncio.Queue[Any]] = []

        def track(queue: asyncio.Queue[Any]) -> None:
            self._followers.difference_update(queues)
            queues[:] = [queue]
            self._followers.add(queue)

        try:
            async with aclosing(follow(self._client, self.api, stream, subject, after, track)) as messages:
                async for message in messages:
                    yield message
        finally:
            self._followers.difference_update(queues)

    @asynccontextmanager
    async def pull(self, stream: str, consumer: str) -> AsyncIterator[Puller]:
        """A puller on a durable consumer."""
        puller = NatsPuller(self._client, stream, consumer)
        subscribed = asyncio.Event()
        self._pullers.add(puller)
        serving = asyncio.create_task(puller.serve(subscribed), name=f"pull {stream}/{consumer}")
        serving.add_done_callback(puller.served)
        try:
            await subscribed.wait()
            yield puller
        finally:
            self._pullers.discard(puller)
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    async def ack(self, delivery: Delivery) -> None:
        """Settle: done."""
        await self._requests.send([(delivery.token, b"+ACK")])

    async def ack_many(self, deliveries: Sequence[Delivery]) -> None:
        """Settle: done, for each."""
        await self._requests.send([(delivery.token, b"+ACK") for delivery in deliveries])

    async def nak(self, delivery: Delivery, delay_s: float = 0.0) -> None:
        """Settle: deliver again, after `delay_s` seconds at the earliest."""
        body = b"-NAK" if delay_s <= 0 else b'-NAK {"delay":%d}' % int(delay_s * 1e9)
        await self._requests.send([(delivery.token, body)])

    async def in_progress(self, delivery: Delivery) -> None:
        """Renew the lease. Returns once the server has confirmed."""
        answers.confirmed(await self._requests.request(delivery.token, b"+WPI"))

    async def apply(self, topology: Topology) -> None:
        """Create or update streams and consumers."""
        for line in await self._manager.apply(topology):
            log.info("applied: %s", line)

    async def compare(self, topology: Topology) -> list[str]:
        """What `apply` would change, in words; empty where nothing."""
        return await self._manager.apply(topology, only_compare=True)

    async def owner(self, subject: str) -> str | None:
        """The stream that owns a subject."""
        return await self._manager.owner(subject)

    async def consumer(self, stream: str, consumer: str) -> ConsumerState:
        """A consumer's figures and configuration."""
        info = await self.api(f"CONSUMER.INFO.{stream}.{consumer}", None)
        self._set_clock(info)
        return answers.consumer_state(info)

    async def leftover(self, stream: str, consumer: str, *, after: int = 0) -> Delivery | None:
        """The first message past `after` that a work queue's consumer has done with, and that is there all the same."""
        done = answers.done_with(await self.api(f"CONSUMER.INFO.{stream}.{consumer}", None))
        if done.floor <= after:
            return None
        found = await self._read(stream, {"seq": after + 1, "next_by_subj": done.subject})
        return None if found is None or found.sequence > done.floor else answers.delivery_again(found, stream, consumer)

    async def put(self, bucket: str, key: str, value: bytes) -> None:
        """Set a key of a KV bucket."""
        await self.publish(f"$KV.{bucket}.{key}", value)

    async def value(self, bucket: str, key: str) -> bytes | None:
        """A key's value in a KV bucket."""
        found = await self.last(f"KV_{bucket}", f"$KV.{bucket}.{key}")
        if found is None or found.headers.get("KV-Operation") in ("DEL", "PURGE"):
            return None
        return found.body

    def jetstream(self) -> JetStreamContext:
        """nats-py's own context on this connection, for object stores."""
        return self._client.jetstream()

    async def api(self, verb: str, request: Any) -> dict[str, Any]:
        """Call JetStream's API. Raises `Refused`."""
        body = b"" if request is None else msgspec.json.encode(request)
        return answers.answer(await self._requests.request(f"$JS.API.{verb}", body))

    async def _read(self, stream: str, request: Mapping[str, Any]) -> Stored | None:
        try:
            return answers.stored(
                await self._requests.request(
                    f"$JS.API.STREAM.MSG.GET.{stream}",
                    msgspec.json.encode(request),
                    timeout_s=min(READ_S, self._answer_timeout_s),
                )
            )
        except Refused as error:
            if error.err_code == answers.NO_MESSAGE:
                return None
            raise

    async def _read_clock(self, wait: bool) -> None:
        """The first question, and so the one that finds out whether JetStream answers at all."""
        while True:
            try:
                return self._set_clock(await self.api("STREAM.LIST", {"offset": 1 << 30}))
            except (Disconnected, NoAnswer) as error:
                # A cluster answers once it has a leader, which takes seconds after a start.
                if not wait:
                    raise
                log.warning("JetStream at %s does not answer yet (%s); asking until it does", self._url, error)
            await asyncio.sleep(ASK_AGAIN_S)

    def _set_clock(self, answer: Mapping[str, Any]) -> None:
        server = answers.server_time(answer)
        if server is not None:
            self._clock_ahead = server - datetime.now(UTC)

    async def _on_error(self, error: Exception) -> None:
        # While nobody listens nats-py reports every try; the log needs the first.
        if isinstance(error, OSError) or "empty response from server" in str(error):
            if not self._complained:
                log.warning("NATS at %s cannot be reached (%s); trying until it can", self._url, error)
            self._complained = True
        elif "permissions violation" in str(error).lower():
            log.error("NATS refuses this user: %s", error)
        else:
            log.warning("NATS: %r", error)

    async def _on_disconnected(self) -> None:
        if not self._client.is_closed:
            log.warning("lost the connection to NATS at %s", self._url)
        # What nats-py had queued for the old connection it would send on the next one, stale acknowledgements too.
        self._client._pending.clear()
        self._client._pending_data_size = 0
        self._requests.fail_all()
        for puller in self._pullers:
            puller.lost()
        for queue in self._followers:
            queue.put_nowait(None)

    async def _on_reconnected(self) -> None:
        self._complained = False
        log.warning("connected to NATS again, at %s", self._url)
        for puller in self._pullers:
            puller.lost()

    async def flush(self) -> None:
        """Return once the server has seen all that was sent. Raises `Disconnected`."""
        try:
            await self._client.flush()
        except (NatsError, TimeoutError) as error:
            raise Disconnected(f"not connected to NATS: {error!r}") from error


def _word_on(answer: Arrived | BusError) -> PubAck | BusError:
    if isinstance(answer, BusError):
        return answer
    try:
        return answers.pub_ack(answer)
    except BusError as error:
        return error
