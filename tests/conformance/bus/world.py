"""What a conformance test gets: a bus, ways to another connection, and a pace."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import anyio

from infra.bus.base import Bus, ConsumerState, Delivery, Puller
from infra.bus.topology import BucketSpec, ConsumerSpec, RouteSpec, StreamSpec, Topology

__all__ = ["World", "bodies", "eventually", "take", "topology"]

Part = StreamSpec | BucketSpec | ConsumerSpec | RouteSpec


def topology(*parts: Part) -> Topology:
    """A topology of these parts."""
    return Topology(
        streams=tuple(part for part in parts if isinstance(part, StreamSpec)),
        buckets=tuple(part for part in parts if isinstance(part, BucketSpec)),
        consumers=tuple(part for part in parts if isinstance(part, ConsumerSpec)),
        routes=tuple(part for part in parts if isinstance(part, RouteSpec)),
    )


@dataclass
class World:
    """A server that nobody else uses, and a connection to it."""

    bus: Bus
    connect: Callable[[], AbstractAsyncContextManager[Bus]]
    """Another connection to the same server."""
    outage: Callable[[], AbstractAsyncContextManager[None]]
    """A time in which `bus` has no server; what the server knew it still knows afterwards."""
    forgetful_outage: Callable[[], AbstractAsyncContextManager[None]]
    """What is acknowledged in the block is removed, and back when it ends; the server restarts before and after."""
    lease_s: float
    """An `ack_wait` that can be waited for here: short in real time, a minute in virtual time."""

    async def apply(self, *parts: Part) -> None:
        """Apply a topology of these parts."""
        await self.bus.apply(topology(*parts))

    async def queue(self, *, max_ack_pending: int = 1_000, max_per_subject: int = -1) -> None:
        """Work queue `JOBS` for `jobs.echo` and `jobs.sum`, with a consumer for each."""
        await self.apply(
            StreamSpec(
                name="JOBS",
                subjects=("jobs.echo", "jobs.sum"),
                retention="workqueue",
                discard="new",
                discard_per_subject=max_per_subject > 0,
                max_msgs_per_subject=max_per_subject,
            ),
            *(
                ConsumerSpec(
                    stream="JOBS",
                    name=kind,
                    subject=f"jobs.{kind}",
                    ack_wait_s=self.lease_s,
                    max_ack_pending=max_ack_pending,
                )
                for kind in ("echo", "sum")
            ),
        )

    async def enqueue(self, *bodies: bytes) -> list[int]:
        """Publish jobs to `jobs.echo`, and wait until its consumer counts them; their sequences."""
        before = await self.bus.consumer("JOBS", "echo")
        sequences = [(await self.bus.publish("jobs.echo", body)).sequence for body in bodies]
        await self.until(lambda state: state.depth >= before.depth + len(bodies))
        return sequences

    async def until(self, holds: Callable[[ConsumerState], bool], consumer: str = "echo") -> ConsumerState:
        """The state of a consumer of `JOBS` once `holds` does: a server's figures follow its deeds."""

        async def look() -> bool:
            return holds(await self.bus.consumer("JOBS", consumer))

        await eventually(look, self.lease_s)
        return await self.bus.consumer("JOBS", consumer)

    @asynccontextmanager
    async def pulling(self, credit: int = 1, *, consumer: str = "echo") -> AsyncIterator[Puller]:
        """A puller on a consumer of `JOBS` that has asked for `credit` messages."""
        async with self.bus.pull("JOBS", consumer) as puller:
            puller.grant(credit)
            yield puller

    async def lease(self, count: int = 1) -> list[Delivery]:
        """Pull messages from `echo` and leave them unsettled."""
        async with self.pulling(count) as puller:
            return await take(puller, count, self.lease_s)

    async def nak(self, delivery: Delivery) -> None:
        """Give a message back, and wait until the server has it back: a pull sent later may be read earlier.

        What is said of deliveries is read in order, and an `in_progress` is answered; it takes back no nak.
        """
        await self.bus.nak(delivery)
        await self.bus.in_progress(delivery)


async def take(puller: Puller, count: int, lease_s: float) -> list[Delivery]:
    """The next `count` messages, in order of arrival."""
    with anyio.fail_after(20 * lease_s + 5):
        return [await puller.receive() for _ in range(count)]


def bodies(deliveries: Sequence[Delivery]) -> list[bytes]:
    """Their bodies."""
    return [delivery.body for delivery in deliveries]


async def eventually(holds: Callable[[], Awaitable[bool]], lease_s: float) -> None:
    """Return once `holds` does. For what the server does by the clock and announces to nobody."""
    with anyio.fail_after(20 * lease_s + 5):
        while not await holds():  # noqa: ASYNC110  the server announces nothing that could be waited for
            await anyio.sleep(lease_s / 50)
