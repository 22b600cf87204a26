"""The bare loop: publish, pull, one Ray call, publish the result, acknowledge; no log, no lifecycle, no checks.

What anybody would write first, with Jetray's own bus.

    python -m tests.benchmarks.contenders.bare_app URL
"""

from __future__ import annotations

import sys
from typing import Any

import ray
import uvloop

from infra.bus.nats import connect
from tests.benchmarks.contenders.base import CONSUMER, OUT, STREAM
from tests.benchmarks.contenders.own_ray import own_ray
from tests.benchmarks.jobs import answer


class Worker:
    """The actor."""

    def one(self, body: bytes) -> bytes:
        """One job."""
        return answer(body.decode()).encode()


async def main(url: str) -> None:
    """Work until killed."""
    made: Any = ray.remote(Worker)
    actor = made.options(num_cpus=0.5).remote()
    async with connect(url, name="bare loop") as bus, bus.pull(STREAM, CONSUMER) as puller:
        puller.grant(1)
        while True:
            delivery = await puller.receive()
            result = await actor.one.remote(delivery.body)
            await bus.publish(OUT, result)
            await bus.ack(delivery)
            puller.grant(1)


if __name__ == "__main__":
    with own_ray(2):
        uvloop.run(main(sys.argv[1]))
