"""Pull, publish one result, wait for its acknowledgement, acknowledge: with Jetray's puller and publisher.

python -m tests.benchmarks.contenders.nats_alone_app URL
"""

from __future__ import annotations

import asyncio
import sys

import uvloop

from infra.bus.base import Delivery, Puller
from infra.bus.nats import NatsBus, connect
from tests.benchmarks.contenders.base import CONSUMER, OUT, STREAM
from tests.benchmarks.jobs import answer

WINDOW = 512
"""Messages in hand at once."""


async def main(url: str) -> None:
    """Work until killed."""
    async with (
        connect(url, name="nats alone") as bus,
        bus.pull(STREAM, CONSUMER) as puller,
        asyncio.TaskGroup() as tasks,
    ):
        puller.grant(WINDOW)
        while True:
            tasks.create_task(_one(bus, puller, await puller.receive()))


async def _one(bus: NatsBus, puller: Puller, delivery: Delivery) -> None:
    await bus.publish(OUT, answer(delivery.body.decode()).encode())
    await bus.ack(delivery)
    puller.grant(1)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
