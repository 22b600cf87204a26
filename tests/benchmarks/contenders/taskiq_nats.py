"""taskiq on JetStream: two worker processes, each result published."""

from __future__ import annotations

import json

from tests.benchmarks.contenders.base import IN, Round, answer_lane, queue
from tests.benchmarks.jobs import Job, jobs
from tests.benchmarks.lane import measure, warm_up
from tests.benchmarks.publisher import Message
from tests.benchmarks.stage import running, stage

__all__ = ["play"]

WARM_UP = 500
WORKERS = 2
TASKS = 128
"""Tasks that a worker runs at once."""


async def play(count: int) -> Round:
    """One round."""
    lane = answer_lane("taskiq-nats", _message)
    async with stage("taskiq") as on:
        await queue(on)
        command = [
            "-m", "taskiq", "worker", "tests.benchmarks.contenders.taskiq_app:broker",
            "--workers", str(WORKERS), "--max-async-tasks", str(TASKS), "--log-level", "WARNING",
        ]  # fmt: skip
        async with running("taskiq", command, on.folder, {"NATS_URL": on.url}) as process:
            await warm_up(on, lane, [process], WARM_UP)
            return Round.of(await measure(on, lane, [process], list(jobs("job", count))))


def _message(job: Job) -> Message:
    """As `kick` of taskiq's own broker writes it."""
    body = {
        "task_id": job.id,
        "task_name": "digest",
        "labels": {},
        "labels_types": {},
        "args": [job.text],
        "kwargs": {},
    }
    return Message(IN, json.dumps(body).encode())
