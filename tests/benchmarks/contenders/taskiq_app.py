"""What taskiq's workers run: a broker on JetStream, and a result backend that publishes each result."""

from __future__ import annotations

import os
from typing import Any

import nats
from nats.js import JetStreamContext
from taskiq import AsyncResultBackend
from taskiq.result import TaskiqResult
from taskiq_nats import PullBasedJetStreamBroker

from tests.benchmarks.contenders.base import CONSUMER, IN, OUT, STREAM
from tests.benchmarks.jobs import answer

URL = os.environ["NATS_URL"]
FETCH = 100
"""Messages a pull."""


class Published(AsyncResultBackend):  # type: ignore[misc]
    """Publishes a result and waits for the server's word, as the other contenders on NATS do."""

    _stream: JetStreamContext

    async def startup(self) -> None:
        """Connect."""
        self._client = await nats.connect(URL)
        self._stream = self._client.jetstream()

    async def shutdown(self) -> None:
        """Close the connection."""
        await self._client.close()

    async def set_result(self, task_id: str, result: TaskiqResult[Any]) -> None:
        """Store a result."""
        await self._stream.publish(OUT, str(result.return_value).encode())

    async def is_result_ready(self, task_id: str) -> bool:
        """Results are read from their stream."""
        return False

    async def get_result(self, task_id: str, with_logs: bool = False) -> TaskiqResult[Any]:
        """Results are read from their stream."""
        raise NotImplementedError


broker = PullBasedJetStreamBroker(
    servers=[URL],
    subject=IN,
    stream_name=STREAM,
    durable=CONSUMER,
    pull_consume_batch=FETCH,
    pull_consume_timeout=5,
).with_result_backend(Published())


@broker.task(task_name="digest")
async def digest(text: str) -> str:
    """The job."""
    return answer(text)
