"""Credit on a real server: what gateways have in hand, how kinds and lanes share them, and that none is stuck."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec
import pytest

from contracts import subjects
from contracts.fleet import Versions
from infra.bus import embedded
from infra.bus.nats import NatsBus, connect
from infra.pool.base import Profile
from infra.pool.memory import MemoryPool
from infra.store.memory import MemoryStore
from tests.checker import logs, violations
from workers import JobContext, job
from workers.kinds.host import KindHost
from workers.kinds.registry import Kind
from workers.runtime.gateway import Gateway
from workers.runtime.topology import lane_durable
from workers.settings import Settings

pytestmark = [pytest.mark.anyio, pytest.mark.server]

ACTORS: Final = 2
EACH: Final = 2
SLOTS: Final = ACTORS * EACH
AHEAD: Final = 2
"""One for each actor."""
KINDS: Final = ("one", "other")
LANES: Final = tuple((kind, high) for kind in KINDS for high in (False, True))
PATIENCE_S: Final = 120


class Task(msgspec.Struct):
    id: str


class World:
    """A server, gateways in this process on connections of their own, and jobs that run as long as the test says."""

    def __init__(self, url: str, bus: NatsBus) -> None:
        self.bus = bus
        self.ended: list[tuple[str, str]] = []
        """The kind and lane of each job that has run, in order."""
        self.by_gateway: Counter[str] = Counter()
        self.running = 0
        self.most_running = 0
        self.gateways: dict[str, Gateway] = {}
        self._url = url
        self._allowed = 0
        self._published = 0
        self._news = asyncio.Condition()

    async def work(self, gateway: str, kind: str, task: Task) -> None:
        """A job: runs until it is allowed to end."""
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await self._tell()
            async with self._news:
                await self._news.wait_for(lambda: self._allowed > 0)
                self._allowed -= 1
        finally:
            self.running -= 1
        self.ended.append((kind, task.id.partition("-")[0]))
        self.by_gateway[gateway] += 1
        await self._tell()

    async def allow(self, count: int) -> None:
        """So many more jobs may end."""
        self._allowed += count
        await self._tell()

    async def publish(self, kind: str, count: int, *, high: bool = False) -> None:
        """Queue jobs."""
        lane = "high" if high else "normal"
        numbers = range(self._published, self._published + count)
        self._published += count
        for number in numbers:
            body = msgspec.json.encode(Task(id=f"{lane}-{number}"))
            await self.bus.publish(subjects.job(kind, high=high), body)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Return once that is so of the jobs."""
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(holds)

    async def in_hand(self) -> dict[tuple[str, bool], int]:
        """What the server says each lane has delivered and nobody settled."""
        states = [await self.bus.consumer(subjects.JOBS, lane_durable(kind, high=high)) for kind, high in LANES]
        return {lane: state.unacknowledged for lane, state in zip(LANES, states, strict=True)}

    async def at_rest(self) -> dict[tuple[str, bool], int]:
        """What it says once nothing moves: jobs run in all slots, and the server has heard what was settled."""
        before = None
        async with asyncio.timeout(PATIENCE_S):
            while before != (now := await self.in_hand()) or sum(now.values()) != self.held:
                before = now
                await asyncio.sleep(0.05)
        return now

    @property
    def held(self) -> int:
        """What the gateways say that they have in hand."""
        return sum(gateway._credits["default"].held for gateway in self.gateways.values())

    @asynccontextmanager
    async def gateway(self, name: str = "gw-1") -> AsyncIterator[Gateway]:
        """A gateway that serves."""
        settings = msgspec.convert(
            {
                "gateway": {"name": name, "grace_s": 1},
                "profiles": {"default": {"actors": ACTORS, "concurrency": EACH}},
                "streams": {"events_max_bytes": 256 * 1024**2, "dlq_max_bytes": 256 * 1024**2},
                "routes": [],
            },
            Settings,
        )
        kinds = {kind: self._kind(name, kind) for kind in KINDS}
        profiles = [Profile(name="default", actors=ACTORS, concurrency=EACH)]
        async with connect(self._url, name=name) as bus:
            gateway = self.gateways[name] = Gateway(
                settings,
                kinds,
                bus=bus,
                pool=MemoryPool(profiles, lambda: KindHost(kinds, {})),
                store=MemoryStore(),
                versions=Versions(jetray="test", python="3", ray=None, nats_server=bus.server_version),
                nonce=secrets.token_hex(8),
                jitter=lambda: 0.5,
            )
            serving = asyncio.Event()
            running = asyncio.create_task(gateway.run(serving.set))
            async with asyncio.timeout(PATIENCE_S):
                await serving.wait()
            try:
                yield gateway
            finally:
                gateway.drain("the test is over")
                await running

    def _kind(self, gateway: str, name: str) -> Kind:
        async def run(ctx: JobContext, task: Task) -> None:
            await self.work(gateway, name, task)

        return job(name, id_field="id")(run)

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A server with the streams of a gateway that has gone. At the end of the test the logs are checked."""
    async with embedded.nats_server(tmp_path) as server, connect(server.url, name="test") as bus:
        world = World(server.url, bus)
        async with world.gateway("gw-0"):
            pass
        world.gateways.clear()
        yield world
        assert violations(await logs(bus)) == []


async def test_never_more_in_hand_than_slots_and_prefetch_and_a_probe_for_each_lane(world: World) -> None:
    for kind, high in LANES:
        await world.publish(kind, 250, high=high)
    async with world.gateway():
        for step in range(1, 21):
            await world.until(lambda: world.running == SLOTS)
            lanes = await world.at_rest()
            assert SLOTS + AHEAD <= sum(lanes.values()) <= SLOTS + AHEAD + len(LANES)
            await world.allow(7)
            await world.until(lambda step=step: len(world.ended) == 7 * step)  # type: ignore[misc]
        await world.allow(1_000)
        async with asyncio.timeout(PATIENCE_S):
            while len(world.ended) < 1_000:
                for lane, count in (await world.in_hand()).items():
                    assert count <= SLOTS + AHEAD + 1, lane
    assert world.most_running == SLOTS
    half = Counter(kind for kind, _ in world.ended[:500])
    assert min(half.values()) >= 0.45 * 500


async def test_the_high_lane_overtakes_what_waits_in_the_normal_one(world: World) -> None:
    await world.publish("one", 200)
    async with world.gateway():
        await world.until(lambda: world.running == SLOTS)
        await world.publish("one", 20, high=True)
        # A few at a time: each time it is known what waits before slots are free again.
        for ended in range(SLOTS, 60, SLOTS):
            await world.allow(SLOTS)
            await world.until(lambda ended=ended: len(world.ended) == ended)  # type: ignore[misc]
            await world.until(lambda: world.running == SLOTS)
            await world.at_rest()
        await world.allow(220)
        await world.until(lambda: len(world.ended) == 220)
    last = max(number for number, (_, lane) in enumerate(world.ended) if lane == "high")
    normal_before = last + 1 - 20
    # With equal parts as many normal ones would end before as there are high ones, beside what was in hand already.
    assert normal_before < SLOTS + AHEAD + 20


async def test_an_endless_high_backlog_leaves_the_normal_lane_its_part(world: World) -> None:
    await world.publish("one", 400, high=True)
    await world.publish("one", 200)
    async with world.gateway():
        await world.allow(600)
        await world.until(lambda: len(world.ended) == 600)
    meanwhile = Counter(lane for _, lane in world.ended[:400])
    assert 400 / 8 - 2 * (SLOTS + AHEAD) <= meanwhile["normal"] <= 400 / 8 + 2 * (SLOTS + AHEAD)


async def test_two_gateways_share_and_no_credit_is_stuck(world: World) -> None:
    for kind, high in LANES:
        await world.publish(kind, 250, high=high)
    async with AsyncExitStack() as both:
        for name in ("gw-1", "gw-2"):
            await both.enter_async_context(world.gateway(name))
        await world.until(lambda: world.running == 2 * SLOTS)
        assert sum((await world.at_rest()).values()) <= 2 * (SLOTS + AHEAD + len(LANES))
        await world.allow(1_000)
        await world.until(lambda: len(world.ended) == 1_000)
        assert min(world.by_gateway.values()) >= 250
        assert sum((await world.at_rest()).values()) == 0
        # Each took of what the other knew to wait. Now one kind alone gets every slot of both, then the other.
        for kind in KINDS:
            await world.publish(kind, 6 * SLOTS)
            await world.until(lambda: world.running == 2 * SLOTS)
            done = len(world.ended) + 6 * SLOTS
            await world.allow(6 * SLOTS)
            await world.until(lambda done=done: len(world.ended) == done)  # type: ignore[misc]
    assert world.most_running == 2 * SLOTS
