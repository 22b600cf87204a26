"""Read a filter of a stream in order, for ever.

An ephemeral consumer without acknowledgement does the reading. It lives in the server's memory, so it is made anew,
after the last message seen, whenever it falls silent, the connection was lost, or a message is missing in its count.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import anyio
from nats.aio.msg import Msg

from infra.bus.base import BusError, Refused, Stored
from infra.bus.nats.answers import consumer_sequence, from_follow

if TYPE_CHECKING:
    from nats.aio.client import Client

__all__ = ["follow"]

log = logging.getLogger("jetray.bus")

HEARTBEAT_S: Final = 5.0
RETRY_S: Final = 0.5

Api = Callable[[str, Any], Awaitable[dict[str, Any]]]


async def follow(
    client: Client, api: Api, stream: str, subject: str, after: int, lost: Callable[[asyncio.Queue[Any]], None]
) -> AsyncGenerator[Stored, None]:
    """Every message on `subject` with a sequence greater than `after`. `lost` is told the queue to wake on a loss."""
    seen = after
    while True:
        arrived: asyncio.Queue[Msg | None] = asyncio.Queue()
        lost(arrived)
        inbox = client.new_inbox()
        subscription = await client.subscribe(inbox, cb=_putter(arrived), pending_msgs_limit=0, pending_bytes_limit=0)
        try:
            consumer = await _create(api, stream, subject, seen, inbox)
            async for message in _in_order(arrived):
                if message.sequence > seen:
                    seen = message.sequence
                    yield message
            await _delete(api, stream, consumer)
        except Refused as error:
            if 400 <= error.code < 500:
                raise
            log.warning("following %s in %s: %s; trying again", subject, stream, error)
            await asyncio.sleep(RETRY_S)
        except BusError as error:
            log.debug("following %s in %s: %s; trying again", subject, stream, error)
            await asyncio.sleep(RETRY_S)
        finally:
            # Also when cancelled: a subscription left behind would be delivered to for ever.
            with anyio.CancelScope(shield=True):
                if client.is_connected:
                    await subscription.unsubscribe()


async def _create(api: Api, stream: str, subject: str, seen: int, inbox: str) -> str:
    config = {
        "filter_subject": subject,
        "deliver_subject": inbox,
        "ack_policy": "none",
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": seen + 1,
        "replay_policy": "instant",
        "idle_heartbeat": int(HEARTBEAT_S * 1e9),
        "flow_control": True,
        "inactive_threshold": int(30e9),
        "mem_storage": True,
        "num_replicas": 1,
        "max_deliver": 1,
    }
    made = await api(f"CONSUMER.CREATE.{stream}", {"stream_name": stream, "config": config})
    return str(made["name"])


async def _delete(api: Api, stream: str, consumer: str) -> None:
    try:
        await api(f"CONSUMER.DELETE.{stream}.{consumer}", None)
    except BusError as error:
        # The server removes it by itself once it is inactive.
        log.debug("consumer %s of %s was not deleted: %s", consumer, stream, error)


async def _in_order(arrived: asyncio.Queue[Msg | None]) -> AsyncIterator[Stored]:
    """Messages until one is missing, the consumer falls silent, or the connection is lost."""
    expected = 1
    while True:
        try:
            async with asyncio.timeout(3 * HEARTBEAT_S):
                message = await arrived.get()
        except TimeoutError:
            return
        if message is None:
            return
        if (message.headers or {}).get("Status") == "100":
            await _answer_flow_control(message)
            last = (message.headers or {}).get("Nats-Last-Consumer")
            if last is not None and int(last) != expected - 1:
                return
            continue
        try:
            found, following = from_follow(message), consumer_sequence(message) == expected
        except ValueError as error:
            log.warning("following: %s", error)
            return
        if not following:
            return
        expected += 1
        yield found


async def _answer_flow_control(message: Msg) -> None:
    reply = message.reply or (message.headers or {}).get("Nats-Consumer-Stalled")
    if reply:
        await message._client.publish(reply)


def _putter(arrived: asyncio.Queue[Msg | None]) -> Callable[[Msg], Awaitable[None]]:
    async def put(message: Msg) -> None:
        arrived.put_nowait(message)

    return put
