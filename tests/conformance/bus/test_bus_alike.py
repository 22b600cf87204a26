"""The same calls, drawn by chance, to the bus in memory and to a nats-server: the same answers, step by step."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest

from contracts.headers import EXPECTED_FILTER, EXPECTED_SEQUENCE, MSG_ID
from infra.bus.base import Bus, ConsumerState, Delivery, Puller, Refused, Stored
from infra.bus.embedded import nats_server
from infra.bus.memory import MemoryBus, MemoryServer
from infra.bus.nats import connect
from infra.bus.topology import ConsumerSpec, StreamSpec, Topology
from tests.conformance.bus.world import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.server]

STEPS = 150
NOTHING = "nothing to pull"

TOPOLOGY = Topology(
    streams=(
        StreamSpec(
            name="JOBS",
            subjects=("jobs.a", "jobs.b"),
            retention="workqueue",
            discard="new",
            discard_per_subject=True,
            max_msgs_per_subject=6,
        ),
        StreamSpec(name="EVENTS", subjects=("log.*.*",), discard="new", max_bytes=4_000),
        StreamSpec(name="AGENTS", subjects=("agent.*",), discard="old", max_bytes=1_000, max_msgs_per_subject=3),
    ),
    consumers=tuple(
        # No lease ends by itself here: time is not alike.
        ConsumerSpec(stream=stream, name=name, subject=subject, ack_wait_s=600, max_ack_pending=3)
        for stream, name, subject in (
            ("JOBS", "a", "jobs.a"),
            ("JOBS", "b", "jobs.b"),
            ("EVENTS", "logs", "log.started.*"),
            ("AGENTS", "all", ">"),
        )
    ),
)
CONSUMERS = [(consumer.stream, consumer.name) for consumer in TOPOLOGY.consumers]
SUBJECTS = ("jobs.a", "jobs.b", "log.started.x", "log.ended.x", "log.started.y", "agent.x", "agent.y", "none.x")
FILTERS = ("log.*.x", "log.*.y", "log.started.*", "jobs.a", "agent.*", ">", "none.>")


@dataclass
class Side:
    """One of the two buses, and what it has handed out."""

    bus: Bus
    pullers: dict[tuple[str, str], Puller]
    at_once: bool
    """Whether what there is to pull arrives while it is asked for."""
    held: dict[tuple[str, str], list[Delivery]] = field(default_factory=dict)


@pytest.fixture
def anyio_backend() -> str:
    """The real one needs asyncio."""
    return "asyncio"


@pytest.fixture
async def sides(tmp_path: Path) -> AsyncIterator[list[Side]]:
    """Memory first, which says what there is to pull, then the real one."""
    async with (
        nats_server(tmp_path) as server,
        connect(server.url, name="alike") as real,
        AsyncExitStack() as stack,
    ):
        sides = []
        buses: tuple[tuple[Bus, bool], ...] = ((MemoryBus(MemoryServer()), True), (real, False))
        for bus, at_once in buses:
            await bus.apply(TOPOLOGY)
            pullers = {name: await stack.enter_async_context(bus.pull(*name)) for name in CONSUMERS}
            sides.append(Side(bus, pullers, at_once))
        yield sides


@pytest.mark.parametrize("seed", range(8))
async def test_the_same_calls_get_the_same_answers(sides: list[Side], seed: int) -> None:
    random = Random(seed)
    for step in range(STEPS):
        name, act = draw(random, sides[0])
        expected = await answer(act, sides[0])
        # What memory has none of is not asked of the real one: it would go on asking.
        if expected != NOTHING:
            assert await answer(act, sides[1]) == expected, f"step {step}: {name}"
        await agree_on_figures(sides, f"step {step}: {name}")


Act = Callable[[Side], Awaitable[Any]]


def draw(random: Random, memory: Side) -> tuple[str, Act]:
    """A step: what it is called, and how it is done."""
    key = random.choice(CONSUMERS)
    stream = key[0]
    held = memory.held.get(key, [])
    kind = random.choice(("publish", "publish", "publish", "read", "pull", "pull", "settle", "settle"))
    if kind == "pull":
        return f"pull {key}", lambda side: pull(side, key)
    if kind == "settle" and held:
        # Any delivery ever made, stale ones too.
        index, how = random.randrange(len(held)), random.choice(("ack", "ack", "nak", "delay"))
        return f"{how} {key} {held[index].sequence}", lambda side: settle(side, key, index, how)
    if kind == "read":
        sequence, subject = random.randrange(1, 30), random.choice(FILTERS)
        if random.random() < 0.5:
            return f"get {stream} {sequence}", lambda side: side.bus.get(stream, sequence)
        return f"last {stream} {subject}", lambda side: side.bus.last(stream, subject)
    subject, body, headers = random.choice(SUBJECTS), b"x" * random.randrange(200), draw_headers(random)
    return f"publish {subject} {headers}", lambda side: side.bus.publish(subject, body, headers)


def draw_headers(random: Random) -> dict[str, str]:
    """Ids and expectations, which often fit by chance."""
    headers = {}
    if random.random() < 0.4:
        headers[MSG_ID] = f"id{random.randrange(12)}"
    if random.random() < 0.3:
        headers[EXPECTED_SEQUENCE] = str(random.randrange(12))
    if random.random() < 0.25:
        headers[EXPECTED_FILTER] = random.choice(FILTERS)
    return headers


async def answer(act: Act, side: Side) -> Any:
    """What came of it, without what differs by nature: times and tokens."""
    try:
        result = await act(side)
    except Refused as error:
        return type(error).__name__, error.code, error.err_code
    if isinstance(result, Stored):
        return result.subject, result.sequence, dict(result.headers), result.body
    if isinstance(result, Delivery):
        return result.subject, result.sequence, result.number, result.pending, dict(result.headers), result.body
    return result


async def pull(side: Side, key: tuple[str, str]) -> Delivery | str:
    """One message, where there is one to be had."""
    puller = side.pullers[key]
    puller.grant(1)
    if side.at_once:
        puller.revoke()
        if puller.credit == 0:
            return NOTHING
    with anyio.fail_after(10):
        delivery = await puller.receive()
    side.held.setdefault(key, []).append(delivery)
    return delivery


async def settle(side: Side, key: tuple[str, str], index: int, how: str) -> None:
    """Say something of a delivery, and wait until the server has heard it; that cuts a delay to a lease."""
    delivery = side.held[key][index]
    if how == "ack":
        await side.bus.ack(delivery)
    else:
        await side.bus.nak(delivery, 500.0 if how == "delay" else 0.0)
    await side.bus.in_progress(delivery)


async def agree_on_figures(sides: list[Side], step: str) -> None:
    """The real one's figures follow its deeds."""

    async def figures(side: Side, key: tuple[str, str]) -> tuple[int, int, int]:
        state: ConsumerState = await side.bus.consumer(*key)
        return state.waiting, state.unacknowledged, state.redelivered

    for key in CONSUMERS:
        wanted = await figures(sides[0], key)

        async def alike(key: tuple[str, str] = key, wanted: tuple[int, int, int] = wanted) -> bool:
            return await figures(sides[1], key) == wanted

        try:
            await eventually(alike, 0.1)
        except TimeoutError:
            pytest.fail(f"{step}: {key} has {await figures(sides[1], key)}, in memory {wanted}")
