"""A FastStream application: a subscriber whose return value a publisher stores."""

from __future__ import annotations

import os

import uvloop
from faststream import AckPolicy, FastStream
from faststream.nats import JStream, NatsBroker, PullSub

from tests.benchmarks.contenders.base import CONSUMER, IN, OUT, RESULTS, STREAM
from tests.benchmarks.jobs import answer

FETCH = 100
"""Messages a pull. They are handled one after the other: with `max_workers` it was slower, and so was pushing."""

broker = NatsBroker(os.environ["NATS_URL"], logger=None)


@broker.subscriber(
    IN,
    stream=JStream(STREAM, declare=False),
    durable=CONSUMER,
    pull_sub=PullSub(batch_size=FETCH),
    ack_policy=AckPolicy.NACK_ON_ERROR,
)
@broker.publisher(OUT, stream=RESULTS)
async def digest(text: str) -> str:
    """The job."""
    return answer(text)


if __name__ == "__main__":
    uvloop.run(FastStream(broker, logger=None).run())
