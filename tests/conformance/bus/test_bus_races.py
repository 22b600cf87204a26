"""Eight writers on one log: of each place exactly one winner, and whoever loses learns who won."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import pytest

from contracts import events, subjects
from contracts.events import LogEvent
from contracts.headers import EXPECTED_FILTER
from infra.bus.base import Bus, BusError
from infra.bus.nats import NatsBus, connect
from infra.bus.topology import Topology
from tests.cluster import Cluster
from tests.conformance.bus.races import KIND, Figures, race
from tests.conformance.bus.world import World, topology
from workers.runtime import topology as wanted
from workers.runtime.journal import Journal
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
@pytest.mark.proof
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
@pytest.mark.proof
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


# --- what must be caught


def own_subject(nonce: str, event: LogEvent) -> str:
    """The event's own subject."""
    return subjects.event(event.kind, events.event_name(event), event.job_id)


def another_spelling(nonce: str, event: LogEvent) -> str:
    """Of every second writer, a filter that covers the log as well, and is not the same."""
    log = subjects.job_log(event.kind, event.job_id)
    return log if int(nonce[-1]) % 2 else log.replace(f".{event.kind}.", ".*.")


Filter = Callable[[str, LogEvent], str]


def mutate(monkeypatch: pytest.MonkeyPatch, expected_filter: Filter) -> None:
    """Journals compare under that filter."""
    headers = Journal._headers

    def mutant(self: Journal, event: LogEvent, *rest: Any) -> dict[str, str]:
        return {**headers(self, event, *rest), EXPECTED_FILTER: expected_filter(self._nonce, event)}

    monkeypatch.setattr(Journal, "_headers", mutant)


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.proof
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("expected_filter", [own_subject, another_spelling])
async def test_three_replicas_betray_any_other_filter(
    cluster: Cluster, anyio_backend: str, expected_filter: Filter, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutate(monkeypatch, expected_filter)
    async with connected(cluster) as buses:
        figures = await race(buses, [f"{expected_filter.__name__}-{number}" for number in range(30)], within_s=2.0)
    print(f"\n{expected_filter.__name__}: {figures}")
    assert [what for what in figures.broken if "not over" not in what and "terminal" not in what]


async def test_one_server_does_not_betray_another_spelling(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is why the races are run on three."""
    mutate(monkeypatch, another_spelling)
    await world.bus.apply(events_stream(1))
    async with AsyncExitStack() as stack:
        buses = [await stack.enter_async_context(world.connect()) for _ in range(CONNECTIONS)]
        assert (await race(buses, [f"R{number}" for number in range(30)])).broken == []


def _judge(figures: Figures) -> None:
    print(f"\n{figures}")
    assert figures.broken == []
    assert figures.races >= RACES
    assert figures.contested > RACES
