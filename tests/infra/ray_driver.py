"""Serves a Ray pool in a process of its own and says what it saw: `python -m tests.infra.ray_driver [ADDRESS]`.

A process can have one Ray, and the tests' own has the session's. Exits with 78 and one line for a wrong setting.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import anyio

from infra.pool.base import ConfigError, HostSpec, PoolEvent, Profile
from infra.pool.ray.address import parse_address
from infra.pool.ray.pool import RayPool
from tests.conformance.pool import hosts
from tests.conformance.pool.worlds import begin, call, finish, is_running, underway


async def main(address: str | None) -> None:
    signal.signal(signal.SIGTERM, on_sigterm)
    events: list[PoolEvent] = []
    created, restarted = anyio.Event(), [anyio.Event(), anyio.Event()]

    def listen(event: PoolEvent) -> None:
        events.append(event)
        if event.what == "created":
            created.set()
        if event.what == "restarted":
            next(event for event in restarted if not event.is_set()).set()

    profile = Profile(name="default", actors=2, cpus=0.5, concurrency=2)
    spec = HostSpec(factory=hosts.FACTORY, config=b"configured")
    pool = RayPool([profile], spec, gateway="gw-1", address=parse_address(address))
    seen: dict[str, object] = {}
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pool.serve, listen)
        async with anyio.create_task_group() as beside:
            beside.start_soon(tick, seen)
            execution = await begin(pool, call("persists", streams=True))
            beside.cancel_scope.cancel()
        pid = await underway(execution)
        await created.wait()
        await execution.stop(0.1)
        seen["killed"] = not is_running(pid)
        # Of an actor that dies by itself Ray would tell on standard output, which is the report's alone.
        seen["died"] = repr(await finish(pool, call("dies")))
        seen["echo"] = repr(await finish(pool, call("echo", b"1")))
        seen.update(about_ray())
        for event in restarted:
            await event.wait()
        busy = await begin(pool, call("persists", streams=True))
        pid = await underway(busy)
        tasks.cancel_scope.cancel()
    seen["left_running"] = is_running(pid)
    seen["busy"] = repr(await busy.outcome())
    seen["events"] = [event.what for event in events]
    seen["sigterm"] = signal.getsignal(signal.SIGTERM) is on_sigterm
    print(json.dumps(seen))


def on_sigterm(number: int, frame: object) -> None:
    raise SystemExit(1)


async def tick(seen: dict[str, object]) -> None:
    """Count how often the loop comes round while Ray starts."""
    for ticks in range(sys.maxsize):
        seen["ticks"] = ticks
        await anyio.sleep(0.01)


def about_ray() -> dict[str, object]:
    import ray

    context = ray.get_runtime_context()
    here = next(node for node in ray.nodes() if node["NodeID"] == context.get_node_id())
    names = sorted(ray.util.list_named_actors())
    workplace = Path(context.get_temp_dir())
    return {"cpus_here": here["Resources"].get("CPU", 0), "names": names, "workplace": str(workplace)}


if __name__ == "__main__":
    try:
        anyio.run(main, sys.argv[1] if len(sys.argv) > 1 else None)
    except* ConfigError as group:
        print(group.exceptions[0])
        sys.exit(78)
