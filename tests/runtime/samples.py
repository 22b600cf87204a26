"""Events and deliveries for tests of single rooms."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import Raw

from contracts.errors import ErrorInfo
from contracts.events import Cancelled, Completed, DeliveryRef, Failed, Progress, Spent, Started
from infra.bus.base import Delivery
from infra.bus.memory import MemoryBus, MemoryServer
from tests.runtime.world import Hooks, settings
from workers.core.log import Ticket
from workers.runtime.topology import topology

__all__ = ["cancelled", "completed", "connected", "delivered", "failed", "progress", "started", "ticket"]

NOW = datetime(2026, 11, 22, 5, 0, tzinfo=UTC)


async def connected(hooks: Hooks | None = None, *, max_payload: int = 1024 * 1024) -> MemoryBus:
    """A bus with the streams of a gateway that knows the kinds `echo` and `group`."""
    bus = MemoryBus(MemoryServer(max_payload=max_payload), faults=hooks)
    await bus.apply(topology(settings(gateway={"name": "gw-1"}), ["echo", "group", "plan"]))
    return bus


async def delivered(bus: MemoryBus, body: bytes = b'{"id":"a"}', headers: dict[str, str] | None = None) -> Delivery:
    """A message of kind `echo`, in hand."""
    await bus.publish("jobs.echo", body, headers)
    async with bus.pull("JOBS", "echo") as puller:
        puller.grant(1)
        return await puller.receive()


def ticket(job_id: str = "a", **fields: Any) -> Ticket:
    """A ticket of kind `echo`."""
    given = {"origin": "JOBS:1", "delivery": DeliveryRef(1, 1), "input_sha256": "", "correlation_id": job_id, **fields}
    return Ticket(kind="echo", job_id=job_id, **given)


def _common(n: int, fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": "echo",
        "job_id": "a",
        "n": n,
        "run": 1,
        "attempt": 1,
        "time": NOW,
        "gateway": "gw-1",
        "origin": "JOBS:1",
        **fields,
    }


def started(n: int = 1, **fields: Any) -> Started:
    """The first event of a log."""
    return Started(
        **{
            "input_sha256": "0" * 64,
            "delivery": DeliveryRef(1, 1),
            "actor": "actor-1",
            "waited_ms": 0,
            "deadline": NOW + timedelta(minutes=10),
            "spent": Spent(),
            **_common(n, fields),
        }
    )


def progress(n: int = 2, **fields: Any) -> Progress:
    """A report."""
    return Progress(**_common(n, fields))


def completed(n: int = 2, **fields: Any) -> Completed:
    """A good end."""
    return Completed(**{"result": Raw(b"1"), "artifacts": [], "duration_ms": 5, **_common(n, fields)})


def failed(n: int = 2, **fields: Any) -> Failed:
    """A bad end."""
    error = ErrorInfo(reason="user", type="ValueError", message="no")
    return Failed(**{"error": error, "attempts": 1, "dlq_sequence": 1, **_common(n, fields)})


def cancelled(n: int = 2, **fields: Any) -> Cancelled:
    """An end that somebody wanted."""
    return Cancelled(**{"reason": "", "requested_by": "the test", "stage": "running", **_common(n, fields)})
