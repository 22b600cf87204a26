"""From publish to result, alone on an idle stack: Jetray beside the bare loop, in one run.

The bare loop is what anybody would write first: publish, pull, one Ray call, publish the result, acknowledge; no log,
no lifecycle, no checks. Both run in this process, on the same nats-server and the same Ray, in turns. The publisher is
a process of its own; its clock runs from before the publish to the arrival of the result.

    python -m tests.benchmarks.latency [--rounds 5] [--jobs 100]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import secrets
import statistics
import sys
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
from anyio.abc import TaskStatus

from contracts.fleet import Versions
from infra.bus.embedded import nats_server
from infra.bus.nats import NatsBus, connect
from infra.bus.topology import ConsumerSpec, StreamSpec, Topology
from infra.pool.base import HostSpec, Profile
from infra.pool.ray.pool import RayPool
from infra.store.objects import ObjectStore
from tests.benchmarks.client import Turn
from workers.kinds.host import HostConfig
from workers.kinds.registry import load
from workers.runtime import terms
from workers.runtime.gateway import Gateway
from workers.settings import load as load_settings

MODULES = ["tests.benchmarks.kinds"]
WARM_UP = 30


async def main(rounds: int, jobs: int) -> dict[str, Any]:
    """Measure, print, and return the figures in milliseconds."""
    turns = {"bare": ("bench.in", "bench.done"), "jetray": ("jobs.echo", "orchestration.echo.completed")}
    times: dict[str, list[float]] = {name: [] for name in turns}
    async with _stack() as (url, bus), anyio.create_task_group() as group, _client(url) as take:
        await group.start(_bare_loop, bus)
        for number in range(rounds + 1):
            for name, (subject, result) in turns.items():
                taken = await take(subject, result, jobs if number else WARM_UP)
                times[name] += taken if number else []
        group.cancel_scope.cancel()
    figures: dict[str, Any] = {name: _summary(taken) for name, taken in times.items()}
    figures["ratio_p50"] = round(figures["jetray"]["p50_ms"] / figures["bare"]["p50_ms"], 2)
    return figures


Take = Callable[[str, str, int], Awaitable[list[float]]]


@asynccontextmanager
async def _client(url: str) -> AsyncIterator[Take]:
    """The publisher, in a process of its own."""
    command = (sys.executable, "-m", "tests.benchmarks.client", url)
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, limit=2**24)
    assert process.stdin is not None
    assert process.stdout is not None
    sending, reading = process.stdin, process.stdout

    async def take(subject: str, result: str, count: int) -> list[float]:
        sending.write(msgspec.json.encode(Turn(subject, result, count)) + b"\n")
        return msgspec.json.decode(await reading.readline(), type=list[float])

    try:
        yield take
    finally:
        sending.close()
        await process.wait()


async def _bare_loop(bus: NatsBus, *, task_status: TaskStatus[None]) -> None:
    import ray

    class Bare:
        def f(self, body: bytes) -> bytes:
            return body

    actor: Any = ray.remote(Bare).options(num_cpus=0).remote()
    await bus.apply(
        Topology(
            streams=(
                StreamSpec(name="BENCH", subjects=("bench.in",), retention="workqueue"),
                StreamSpec(name="BENCHED", subjects=("bench.done",)),
            ),
            consumers=(ConsumerSpec(stream="BENCH", name="bare", subject="bench.in"),),
        )
    )
    async with bus.pull("BENCH", "bare") as puller:
        puller.grant(1)
        task_status.started()
        while True:
            delivery = await puller.receive()
            result = await actor.f.remote(delivery.body)
            await bus.publish("bench.done", result)
            await bus.ack(delivery)
            puller.grant(1)


@asynccontextmanager
async def _stack() -> AsyncIterator[tuple[str, NatsBus]]:
    """A nats-server, and a gateway with the benchmark's kinds on a local Ray."""
    environment = {
        "JETRAY_STREAMS_EVENTS_MAX_BYTES": str(2**28),
        "JETRAY_STREAMS_DLQ_MAX_BYTES": str(2**26),
        "JETRAY_GATEWAY_NAME": "bench",
    }
    with tempfile.TemporaryDirectory(prefix="jetray-bench-") as folder:
        settings = load_settings(None, environment)
        config = HostConfig(modules=MODULES, kinds=terms.configs(settings))
        host = HostSpec(factory="workers.kinds.host:build", config=msgspec.json.encode(config))
        pool = RayPool([Profile(name="default", actors=2)], host, gateway="bench")
        async with (
            nats_server(Path(folder)) as server,
            connect(server.url, name="bench") as bus,
        ):
            gateway = Gateway(
                settings,
                load(MODULES),
                bus=bus,
                pool=pool,
                store=ObjectStore(bus, "artifacts"),
                versions=Versions(jetray="", python="", ray=None, nats_server=""),
                nonce=secrets.token_hex(8),
                jitter=random.random,
            )
            serving = anyio.Event()
            async with anyio.create_task_group() as group:
                group.start_soon(gateway.run, serving.set)
                await serving.wait()
                await pool.wait_free("default", exclusive=True)
                yield server.url, bus
                gateway.drain("measured")


def _summary(taken: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(taken, n=100)
    return {"jobs": len(taken), "p50_ms": round(cuts[49], 3), "p99_ms": round(cuts[98], 3)}


def _run(function: Callable[[], Any]) -> Any:
    options = {"use_uvloop": True} if sys.platform != "win32" else {}
    return anyio.run(function, backend_options=options)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each")
    parser.add_argument("--jobs", type=int, default=100, help="jobs in a turn")
    arguments = parser.parse_args()
    found = _run(lambda: main(arguments.rounds, arguments.jobs))
    print(json.dumps(found, indent=2))
