"""What Celery's workers run."""

from __future__ import annotations

import os

from celery import Celery

from tests.benchmarks.jobs import answer

app = Celery("bench", broker=os.environ["BENCH_REDIS"], backend=os.environ["BENCH_REDIS"])
app.conf.update(
    task_acks_late=True,
    worker_prefetch_multiplier=4,
    task_default_queue="idle",
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
)


@app.task(name="digest")
def digest(text: str) -> str:
    """The job."""
    return answer(text)
