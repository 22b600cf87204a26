"""Applying a topology: created once, changed where it differs, refused where it is somebody else's."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest

from infra.bus.base import NoSuchSubject, Refused, StreamFull
from infra.bus.nats import NatsBus
from infra.bus.topology import BucketSpec, ConsumerSpec, Foreign, Republish, RouteSpec, StreamSpec
from tests.conformance.bus.world import World, bodies, take, topology

pytestmark = pytest.mark.anyio


def jobs(*kinds: str, per_subject: int = 10) -> StreamSpec:
    """Work queue `JOBS` for some kinds, which keeps the subjects of others."""
    return StreamSpec(
        name="JOBS",
        subjects=tuple(f"jobs.{kind}" for kind in kinds),
        retention="workqueue",
        discard="new",
        discard_per_subject=True,
        max_msgs_per_subject=per_subject,
        adopts=("jobs.*", "jobs.*.high"),
    )


def worker(kind: str, *, ack_wait_s: float = 60.0, max_ack_pending: int = 1_000) -> ConsumerSpec:
    """The consumer of a kind."""
    return ConsumerSpec(
        stream="JOBS", name=kind, subject=f"jobs.{kind}", ack_wait_s=ack_wait_s, max_ack_pending=max_ack_pending
    )


def route(subject: str = "planning.plan.approved", fallback: StreamSpec | None = None) -> RouteSpec:
    """A routed subject."""
    return RouteSpec(
        name="jetray-route", subject=subject, ack_wait_s=60.0, max_ack_pending=1_000, deliver="new", fallback=fallback
    )


PLANNING = StreamSpec(name="PLANNING", subjects=("planning.>",))

EVERYTHING = (
    jobs("echo"),
    StreamSpec(
        name="EVENTS",
        subjects=("orchestration.*.*.*",),
        description="Job logs",
        discard="new",
        max_age_s=3 * 86_400,
        max_bytes=1_000_000,
        deny_delete=True,
        republish=Republish("orchestration.*.*.*", "orchestration.{{wildcard(1)}}.{{wildcard(2)}}"),
    ),
    BucketSpec(name="kinds", kind="kv", description="What may be sent"),
    BucketSpec(name="workers", kind="kv", max_age_s=30),
    BucketSpec(name="artifacts", kind="objects", max_age_s=7 * 86_400),
    worker("echo"),
    route(fallback=PLANNING),
)


async def test_applied_twice_nothing_changes_and_nothing_is_lost(world: World) -> None:
    await world.apply(*EVERYTHING)
    await world.enqueue(b"1", b"2")
    await world.bus.put("kinds", "echo", b"{}")
    [delivery] = await world.lease()
    before = await world.bus.consumer("JOBS", "echo")
    async with world.connect() as another:
        await replace(world, bus=another).apply(*EVERYTHING)
    assert await world.bus.consumer("JOBS", "echo") == before
    if isinstance(world.bus, NatsBus):
        # The server's words for what was applied differ from ours in nothing, so the second time sent no change.
        assert await world.bus.compare(topology(*EVERYTHING)) == []
    assert await world.bus.value("kinds", "echo") == b"{}"
    await world.bus.ack(delivery)
    assert bodies(await world.lease()) == [b"2"]


async def test_a_consumer_takes_on_new_figures_and_keeps_its_place(world: World) -> None:
    await world.apply(jobs("echo"), worker("echo", max_ack_pending=1))
    await world.enqueue(b"1", b"2")
    async with world.pulling(2) as puller:
        await take(puller, 1, world.lease_s)
        await world.apply(jobs("echo"), worker("echo", ack_wait_s=30, max_ack_pending=2))
        # The second one's place is there now.
        assert bodies(await take(puller, 1, world.lease_s)) == [b"2"]
    config = (await world.bus.consumer("JOBS", "echo")).config
    assert (config["ack_wait"], config["max_ack_pending"]) == (30 * 10**9, 2)


async def test_a_puller_that_waits_gets_the_place_that_is_new(world: World) -> None:
    await world.apply(jobs("echo"), worker("echo", max_ack_pending=1))
    await world.enqueue(b"1", b"2")
    async with world.pulling(2) as puller, anyio.create_task_group() as group:
        await take(puller, 1, world.lease_s)

        async def widen() -> None:
            await anyio.wait_all_tasks_blocked()
            await world.apply(jobs("echo"), worker("echo", max_ack_pending=2))

        group.start_soon(widen)
        assert bodies(await take(puller, 1, world.lease_s)) == [b"2"]


async def test_a_consumer_takes_on_another_subject_from_where_it_is(world: World) -> None:
    planning = StreamSpec(name="PLANNING", subjects=("planning.*",))
    narrow = ConsumerSpec(stream="PLANNING", name="route", subject="planning.a", ack_wait_s=60.0)
    await world.apply(planning, narrow)
    for subject in ("planning.b", "planning.a", "planning.b", "planning.c"):
        await world.bus.publish(subject, subject.encode())
    async with world.bus.pull("PLANNING", "route") as puller:
        puller.grant(1)
        assert bodies(await take(puller, 1, world.lease_s)) == [b"planning.a"]
        await world.apply(planning, replace(narrow, subject="planning.*"))
        puller.grant(2)
        assert bodies(await take(puller, 2, world.lease_s)) == [b"planning.b", b"planning.c"]


async def test_less_room_forgets_nothing_where_what_is_new_is_refused(world: World) -> None:
    events = StreamSpec(name="EVENTS", subjects=("orchestration.*.*.*",), discard="new", max_bytes=10_000)
    await world.apply(events)
    for _ in range(5):
        await world.bus.publish("orchestration.echo.started.A", b"x" * 100)
    await world.apply(replace(events, max_bytes=200))
    assert await world.bus.get("EVENTS", 1) is not None
    with pytest.raises(StreamFull):
        await world.bus.publish("orchestration.echo.started.A", b"")


async def test_a_stream_takes_on_new_limits(world: World) -> None:
    await world.apply(jobs("echo", per_subject=1), worker("echo"))
    await world.enqueue(b"1")
    await world.apply(jobs("echo", per_subject=2), worker("echo"))
    await world.enqueue(b"2")
    assert bodies(await world.lease(2)) == [b"1", b"2"]


async def test_kinds_of_other_gateways_keep_their_subjects(world: World) -> None:
    await world.apply(jobs("echo", "echo.high"), worker("echo"))
    await world.apply(jobs("sum"), worker("sum"))
    for subject in ("jobs.echo", "jobs.echo.high", "jobs.sum"):
        assert (await world.bus.publish(subject, b"")).stream == "JOBS"
    with pytest.raises(NoSuchSubject):
        await world.bus.publish("jobs.unknown", b"")


async def test_a_stream_with_foreign_subjects_is_refused_and_left_alone(world: World) -> None:
    await world.apply(StreamSpec(name="JOBS", subjects=("jobs.echo", "theirs.>"), retention="workqueue"))
    with pytest.raises(Foreign, match=r"JOBS .*theirs\.>"):
        await world.apply(jobs("echo", "sum"))
    await world.bus.publish("theirs.anything", b"")
    with pytest.raises(NoSuchSubject):
        await world.bus.publish("jobs.sum", b"")


async def test_a_stream_of_another_sort_is_refused(world: World) -> None:
    await world.apply(StreamSpec(name="JOBS", subjects=("jobs.echo",)))
    with pytest.raises(Foreign, match="retention"):
        await world.apply(jobs("echo"))


async def test_two_streams_cannot_own_a_subject(world: World) -> None:
    await world.apply(StreamSpec(name="THEIRS", subjects=("orchestration.>",)))
    with pytest.raises(Foreign, match="EVENTS"):
        await world.apply(StreamSpec(name="EVENTS", subjects=("orchestration.*.*.*",)))


async def test_consumers_of_a_work_queue_cannot_share_a_subject(world: World) -> None:
    await world.apply(jobs("echo"), worker("echo"))
    with pytest.raises(Foreign, match="JOBS/second"):
        await world.apply(ConsumerSpec(stream="JOBS", name="second", subject="jobs.>"))
    with pytest.raises(Foreign, match="JOBS/third"):
        await world.apply(
            jobs("echo", "third"), ConsumerSpec(stream="JOBS", name="third", subject="jobs.third", deliver="new")
        )


async def test_a_consumer_needs_its_stream(world: World) -> None:
    with pytest.raises(Foreign, match="JOBS/echo"):
        await world.apply(worker("echo"))


async def test_a_route_is_pulled_from_the_stream_that_owns_its_subject(world: World) -> None:
    await world.apply(StreamSpec(name="THEIRS", subjects=("sales.*", "planning.plan.>")))
    await world.apply(route(fallback=PLANNING))
    await world.bus.publish("planning.plan.approved", b"1")
    async with world.bus.pull("THEIRS", "jetray-route") as puller:
        puller.grant(1)
        assert bodies(await take(puller, 1, world.lease_s)) == [b"1"]
    with pytest.raises(Refused):
        await world.bus.last("PLANNING", ">")


async def test_a_route_that_nobody_owns_gets_its_fallback(world: World) -> None:
    await world.apply(route(fallback=PLANNING))
    await world.apply(route(fallback=PLANNING))
    await world.bus.publish("planning.plan.approved", b"1")
    async with world.bus.pull("PLANNING", "jetray-route") as puller:
        puller.grant(1)
        assert bodies(await take(puller, 1, world.lease_s)) == [b"1"]


async def test_a_route_that_nobody_owns_without_a_fallback_is_refused(world: World) -> None:
    with pytest.raises(Foreign, match=r"planning\.plan\.approved"):
        await world.apply(route())


async def test_a_stream_that_owns_a_part_of_a_route_does_not_own_it(world: World) -> None:
    await world.apply(StreamSpec(name="THEIRS", subjects=("sales.eu.*",)))
    with pytest.raises(Foreign, match=r"sales\.>"):
        await world.apply(route("sales.>"))
    assert await world.bus.owner("sales.>") is None
    assert await world.bus.owner("sales.eu.*") == await world.bus.owner("sales.eu.1") == "THEIRS"
    await world.apply(route("sales.eu.*"))
    assert (await world.bus.consumer("THEIRS", "jetray-route")).depth == 0


async def test_a_lower_limit_per_subject_drops_nothing_that_was_accepted(world: World) -> None:
    await world.apply(jobs("echo", per_subject=3), worker("echo"))
    await world.enqueue(b"1", b"2", b"3")
    with pytest.raises(Foreign, match=r"jobs\.echo"):
        await world.apply(jobs("echo", per_subject=2), worker("echo"))
    assert bodies(await world.lease(3)) == [b"1", b"2", b"3"]
    await world.apply(jobs("echo", per_subject=3), worker("echo"))
