"""The jobs that this gateway runs now."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

import anyio

from contracts.events import Requeued, Started

if TYPE_CHECKING:
    from workers.runtime.worker import Worker

__all__ = ["Live"]

Key = tuple[str, str]
"""Kind and job id."""


class Live:
    """Who runs which job, and who is about to.

    Several deliveries of one job may be in hand at once; the log lets one of them open an attempt. Between the server's
    word and ours the others would find a `started` of ours that nobody here seems to run, so its opener counts too.
    """

    def __init__(self) -> None:
        self._running: dict[Key, Worker] = {}
        self._present: dict[Worker, Key] = {}
        self._empty = anyio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._present)

    def __iter__(self) -> Iterator[Worker]:
        return iter([*self._present])

    def enter(self, worker: Worker, kind: str, job_id: str) -> None:
        """A delivery of this job is in hand."""
        self._present[worker] = (kind, job_id)
        if self._empty.is_set():
            self._empty = anyio.Event()

    def runs(self, worker: Worker) -> None:
        """This worker's `started` is durable."""
        self._running[self._present[worker]] = worker

    def leave(self, worker: Worker) -> None:
        """The delivery is settled, or given up."""
        key = self._present.pop(worker)
        if self._running.get(key) is worker:
            del self._running[key]
        if not self._present:
            self._empty.set()

    def runner(self, kind: str, job_id: str) -> Worker | None:
        """Who runs a job."""
        return self._running.get((kind, job_id))

    def hands(self, kind: str, job_id: str) -> list[Worker]:
        """Who has a delivery of a job in hand: whoever runs it, and whoever may be about to."""
        return [worker for worker, key in self._present.items() if key == (kind, job_id)]

    def of_kinds(self, kinds: Collection[str]) -> list[Worker]:
        """Who has a delivery of any of these kinds in hand."""
        return [worker for worker, (kind, _) in self._present.items() if kind in kinds]

    def elsewhere(self, worker: Worker, opening: Started | Requeued | None) -> bool:
        """Whether another worker here runs the same job, or is just learning that its `started`, `opening`, is durable.

        Not whoever merely has it in hand: two of those would wait for each other.
        """
        kind, job_id = self._present[worker]
        runner = self.runner(kind, job_id)
        if runner is not None:
            return runner is not worker
        return any(other is not worker and other.opened(opening) for other in self.hands(kind, job_id))

    async def wait_empty(self) -> None:
        """Return once no delivery is in hand."""
        await self._empty.wait()
