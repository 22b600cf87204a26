"""Pull, publish one result, wait for its acknowledgement, acknowledge: with Jetray's puller and publisher.

    python -m tests.benchmarks.contenders.nats_alone_app URL single|grouped

`single` does so for each message, as fast as they come; `grouped` for whatever has arrived together.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop

from infra.bus.base import Delivery, Outgoing, PubAck, Puller
from infra.bus.nats import NatsBus, connect
from tests.benchmarks.contenders.base import CONSUMER, OUT, STREAM
from tests.benchmarks.jobs import answer

WINDOW = 512
"""Messages in hand at once."""


async def main(url: str, how: str) -> None:
    """Work until killed."""
    async with (
        connect(url, name="nats alone") as bus,
        bus.pull(STREAM, CONSUMER) as puller,
        asyncio.TaskGroup() as tasks,
    ):
        puller.grant(WINDOW)
        while True:
            if how == "single":
                tasks.create_task(_one(bus, puller, await puller.receive()))
            else:
                tasks.create_task(_many(bus, puller, await puller.receive_many()))


async def _one(bus: NatsBus, puller: Puller, delivery: Delivery) -> None:
    await bus.publish(OUT, answer(delivery.body.decode()).encode())
    await bus.ack(delivery)
    puller.grant(1)


async def _many(bus: NatsBus, puller: Puller, deliveries: list[Delivery]) -> None:
    results = [Outgoing(OUT, answer(delivery.body.decode()).encode()) for delivery in deliveries]
    for said in await bus.publish_many(results):
        if not isinstance(said, PubAck):
            raise said
    await bus.ack_many(deliveries)
    puller.grant(len(deliveries))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2]))
