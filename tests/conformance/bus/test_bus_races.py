"""Eight writers on one log: of each place exactly one winner, and whoever loses learns who won."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import pytest

from infra.bus.base import Bus, BusError
from infra.bus.nats import NatsBus, connect
from infra.bus.topology import Topology
from tests.cluster import Cluster
from tests.conformance.bus.races import KIND, Figures, race
from tests.conformance.bus.world import World, topology
from workers.runtime import topology as wanted
from workers.settings import Gateway, Settings, Streams

pytestmark = pytest.mark.anyio

CONNECTIONS = 4
RACES = 300


def events_stream(replicas: int) -> Topology:
    """Stream EVENTS alone."""
    streams = Streams(replicas=replicas, events_max_bytes=256 * 1024**2)
    whole = wanted.topology(Settings(gateway=Gateway(name="gw-1"), streams=streams), [KIND])
    return topology(*(stream for stream in whole.streams if stream.name == "EVENTS"))


async def test_of_eight_writers_one_wins_each_place(world: World) -> None:
    await world.bus.apply(events_stream(1))
    async with AsyncExitStack() as stack:
        buses = [await stack.enter_async_context(world.connect()) for _ in range(CONNECTIONS)]
        figures = await race(buses, [f"R{number}" for number in range(RACES)])
    _judge(figures)
    assert figures.untold == 0, "no answer was lost"


@asynccontextmanager
async def connected(cluster: Cluster, count: int = CONNECTIONS) -> AsyncIterator[list[Bus]]:
    """Connections to a cluster whose EVENTS has three replicas."""
    async with AsyncExitStack() as stack:
        buses: list[Bus] = [
            await stack.enter_async_context(connect(cluster.url, name=f"writer-{index}", answer_timeout_s=2.0))
            for index in range(count)
        ]
        await buses[0].apply(events_stream(3))
        yield buses


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_of_three_replicas_one_wins_each_place(cluster: Cluster, anyio_backend: str) -> None:
    async with connected(cluster) as buses:
        _judge(await race(buses, [f"three-{number}" for number in range(RACES)]))


Trouble = Callable[[Cluster, Bus], Awaitable[None]]


async def stands_down(cluster: Cluster, bus: Bus) -> None:
    """The leader of EVENTS gives up its place."""
    assert isinstance(bus, NatsBus)
    try:
        await cluster.step_down(bus, "EVENTS")
    except BusError:
        # There is none just now.
        return


async def is_killed(cluster: Cluster, bus: Bus) -> None:
    """The leader of EVENTS is killed, and started again once another leads."""
    assert isinstance(bus, NatsBus)
    victim = await cluster.leader(bus, "EVENTS")
    cluster.kill(victim)
    began = anyio.current_time()
    heir = await cluster.leader(bus, "EVENTS")
    print(f"{victim} was killed, {heir} leads after {anyio.current_time() - began:.1f} s")
    cluster.start(victim)
    await cluster.whole()


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(("trouble", "times", "pause_s"), [(stands_down, 30, 0.5), (is_killed, 3, 5.0)])
async def test_while_the_leader_changes_one_wins_each_place(
    cluster: Cluster, anyio_backend: str, trouble: Trouble, times: int, pause_s: float
) -> None:
    async with connected(cluster, CONNECTIONS + 1) as [spare, *buses]:
        figures, happened = Figures(), 0
        async with anyio.create_task_group() as group:

            async def trouble_it() -> None:
                nonlocal happened
                while happened < times:
                    await anyio.sleep(pause_s)
                    await trouble(cluster, spare)
                    happened += 1

            group.start_soon(trouble_it)
            # Not all at once: of each trouble there are races before, during and after it.
            while happened < times or figures.races < RACES:
                names = [f"{trouble.__name__}-{figures.races + number}" for number in range(20)]
                figures += await race(buses, names)
        print(f"\n{trouble.__name__} {happened} times")
        _judge(figures)


def _judge(figures: Figures) -> None:
    print(f"\n{figures}")
    assert figures.broken == []
    assert figures.races >= RACES
    assert figures.contested > RACES
