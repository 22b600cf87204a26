"""Starts redis-server and Celery's worker, queues jobs, lets the worker at them, and says how long it took.

    python -m tests.benchmarks.contenders.celery_driver REDIS_SERVER FOLDER JOBS

Time runs from before the worker is told to take the queue to the last result's own time (`date_done`).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from infra.bus.embedded import die_with_parent
from tests.benchmarks.contenders.celery_app import app, digest
from tests.benchmarks.jobs import Job, jobs
from tests.benchmarks.verify import answers

PROCESSES: Final = 2
WARM_UP: Final = 100
PATIENCE_S: Final = 300.0
WORKER: Final = (
    sys.executable, "-m", "celery", "-A", "tests.benchmarks.contenders.celery_app", "worker",
    "--concurrency", str(PROCESSES), "--pool", "prefork", "--queues", "idle", "--loglevel", "WARNING",
    "--without-gossip", "--without-mingle", "--without-heartbeat",
)  # fmt: skip


def main(redis: str, folder: Path, count: int) -> None:
    """One round; one line of JSON."""
    socket = folder / "redis.sock"
    server = (redis, "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(folder))
    with _child(server), _child(WORKER):
        _until(socket.exists, 20)
        warm = list(jobs("warm", WARM_UP))
        _collect([digest.apply_async((job.text,), queue="idle") for job in warm])
        owed = list(jobs("job", count))
        promised = [digest.apply_async((job.text,), queue="bench") for job in owed]
        began = time.time()
        app.control.add_consumer("bench", reply=True)
        found = _collect(promised)
    print(json.dumps(_judge(found, owed, began)), flush=True)


def _judge(found: Sequence[Any], owed: Sequence[Job], began: float) -> dict[str, Any]:
    ended = max(_seconds(meta["date_done"]) for meta in found)
    wrong = answers((str(meta["result"]) for meta in found), owed)
    return {"per_second": len(owed) / (ended - began), "wrong": wrong[:100]}


def _collect(promised: Sequence[Any]) -> list[Any]:
    """Each result's record; looked for from the last job backwards, and rarely, to leave the processors alone."""
    _until(promised[-1].ready, PATIENCE_S, every_s=0.1)
    for promise in promised:
        _until(promise.ready, PATIENCE_S, every_s=0.01)
    return [promise.backend.get_task_meta(promise.id) for promise in promised]


def _seconds(date: Any) -> float:
    found = date if isinstance(date, datetime) else datetime.fromisoformat(str(date))
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _until(true: Any, within_s: float, every_s: float = 0.05) -> None:
    until = time.monotonic() + within_s
    while not true():
        if time.monotonic() > until:
            raise TimeoutError(f"not within {within_s:.0f} s")
        time.sleep(every_s)


@contextmanager
def _child(command: Sequence[str]) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=sys.stderr, preexec_fn=die_with_parent)  # noqa: PLW1509  there are no threads yet
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
