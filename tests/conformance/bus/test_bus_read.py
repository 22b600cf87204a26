"""Reading: single messages, following a stream, key-value buckets, and messages as they went in."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import timedelta

import anyio
import pytest

from infra.bus.base import Refused, Stored
from infra.bus.topology import BucketSpec, StreamSpec
from tests.conformance.bus.world import World, eventually

pytestmark = pytest.mark.anyio

EVENTS = StreamSpec(name="EVENTS", subjects=("orchestration.*.*.*",), discard="new", deny_delete=True)


def event(name: str, job_id: str = "A") -> str:
    """A subject in `EVENTS`."""
    return f"orchestration.echo.{name}.{job_id}"


async def first(stream: AsyncGenerator[Stored, None], count: int) -> list[Stored]:
    """The first messages of a stream that never ends."""
    found: list[Stored] = []
    with anyio.fail_after(20):
        async with aclosing(stream) as messages:
            async for message in messages:
                found.append(message)
                if len(found) == count:
                    break
    return found


# --- single messages


async def test_the_last_message_on_a_filter(world: World) -> None:
    await world.apply(EVENTS)
    for subject in (event("started"), event("started", "B"), event("completed"), event("completed", "B")):
        await world.bus.publish(subject, subject.encode())

    async def last(subject: str) -> tuple[int, bytes]:
        found = await world.bus.last("EVENTS", subject)
        assert found is not None
        assert found.body == found.subject.encode()
        return found.sequence, found.body

    assert await last("orchestration.echo.*.A") == (3, event("completed").encode())
    assert await last("orchestration.*.*.B") == (4, event("completed", "B").encode())
    assert await last(event("started")) == (1, event("started").encode())
    assert await last(">") == (4, event("completed", "B").encode())


async def test_nothing_on_a_filter_or_under_a_sequence_is_none(world: World) -> None:
    await world.apply(EVENTS)
    await world.bus.publish(event("started"), b"")
    assert await world.bus.last("EVENTS", "orchestration.echo.*.C") is None
    assert await world.bus.last("EVENTS", event("completed")) is None
    assert await world.bus.get("EVENTS", 2) is None


async def test_what_a_work_queue_has_settled_is_gone(world: World) -> None:
    await world.queue()
    [sequence] = await world.enqueue(b"x")
    assert (await world.bus.get("JOBS", sequence)) is not None
    [delivery] = await world.lease()
    assert (await world.bus.get("JOBS", sequence)) is not None
    await world.bus.ack(delivery)
    await world.until(lambda state: state.depth == 0)
    assert await world.bus.get("JOBS", sequence) is None
    assert await world.bus.last("JOBS", "jobs.echo") is None


async def test_the_filter_for_everything_looks_under_the_last_sequence_alone(world: World) -> None:
    await world.queue()
    await world.enqueue(b"1", b"2")
    [_, second] = await world.lease(2)
    await world.bus.ack(second)
    await world.until(lambda state: state.depth == 1)
    assert await world.bus.last("JOBS", ">") is None
    first = await world.bus.last("JOBS", "jobs.*")
    assert first is not None
    assert first.body == b"1"


async def test_a_stream_that_does_not_exist_is_refused(world: World) -> None:
    for read in (world.bus.last("NONE", ">"), world.bus.get("NONE", 1), world.bus.consumer("NONE", "echo")):
        with pytest.raises(Refused) as refused:
            await read
        assert (refused.value.code, refused.value.err_code) == (404, 10059)


async def test_age_forgets(world: World) -> None:
    await world.apply(
        StreamSpec(name="EVENTS", subjects=("orchestration.*.*.*",), discard="new", max_age_s=world.lease_s)
    )
    await world.bus.publish(event("started"), b"")

    async def gone() -> bool:
        return await world.bus.last("EVENTS", ">") is None

    await eventually(gone, world.lease_s)
    assert (await world.bus.publish(event("started"), b"")).sequence == 2


async def test_messages_bear_the_servers_time(world: World) -> None:
    await world.apply(EVENTS)
    times = []
    for _ in range(3):
        before = world.bus.server_now()
        stored = await world.bus.get("EVENTS", (await world.bus.publish(event("progress"), b"")).sequence)
        assert stored is not None
        # As far as the server's clock is known here.
        slack = timedelta(milliseconds=200)
        assert before - slack <= stored.time <= world.bus.server_now() + slack
        assert stored.time.utcoffset() == timedelta(0)
        times.append(stored.time)
    assert times == sorted(times)


# --- messages as they went in


ODD_HEADERS = {
    "Jetray-Job-Id": "A",
    "jetray-job-id": "another name",
    "Colons": "a: b:c",
    "Accents": "né, 日本, 🛰",
    "Tab": "a\tb",
    "Inner": "a  b",
    "Empty": "",
    "Symbols!#$%&'*+-.^_`|~": '"quoted"',
    "Long": "x" * 4_000,
}


@pytest.mark.parametrize("body", [b"", b"{}", bytes(range(256)), b"\r\n\r\nMSG x 1 0\r\n\r\n", b"\x00" * 70_000])
@pytest.mark.parametrize("headers", [{}, ODD_HEADERS], ids=["bare", "odd"])
async def test_a_message_comes_out_as_it_went_in(world: World, headers: dict[str, str], body: bytes) -> None:
    await world.queue()
    sequence = (await world.bus.publish("jobs.echo", body, headers)).sequence
    stored = await world.bus.get("JOBS", sequence)
    assert stored is not None
    assert (stored.subject, stored.sequence, stored.headers, stored.body) == ("jobs.echo", sequence, headers, body)
    assert await world.bus.last("JOBS", "jobs.*") == stored
    [delivery] = await world.lease()
    assert (delivery.subject, delivery.sequence, delivery.headers, delivery.body) == (
        "jobs.echo",
        sequence,
        headers,
        body,
    )
    assert abs(delivery.stored - stored.time) < timedelta(milliseconds=1)


@pytest.mark.parametrize("headers", [{}, ODD_HEADERS], ids=["bare", "odd"])
async def test_a_followed_message_is_the_same(world: World, headers: dict[str, str]) -> None:
    await world.apply(EVENTS)
    await world.bus.publish(event("started"), b"\x00\xff", headers)
    [followed] = await first(world.bus.follow("EVENTS", ">"), 1)
    stored = await world.bus.get("EVENTS", 1)
    assert stored is not None
    assert (followed.subject, followed.headers, followed.body) == (stored.subject, stored.headers, stored.body)
    assert abs(followed.time - stored.time) < timedelta(milliseconds=1)


async def test_headers_are_trimmed_and_hold_no_newlines(world: World) -> None:
    await world.apply(EVENTS)
    await world.bus.publish(event("started"), b"", {" Name ": " a\r\nb ", "": "nameless"})
    stored = await world.bus.get("EVENTS", 1)
    assert stored is not None
    assert stored.headers == {"Name": "a  b"}


@pytest.mark.parametrize("name", ["a b", "a:b", "a\r\nb", "é"])
async def test_a_name_that_is_no_header_name_is_an_error_of_the_caller(world: World, name: str) -> None:
    await world.apply(EVENTS)
    with pytest.raises(ValueError, match="orchestration"):
        await world.bus.publish(event("started"), b"", {name: "x"})
    assert await world.bus.last("EVENTS", ">") is None


# --- following


async def test_following_begins_with_what_is_there_and_goes_on_live(world: World) -> None:
    await world.apply(EVENTS)
    for number in range(3):
        await world.bus.publish(event("progress"), b"%d" % number)
        await world.bus.publish(event("progress", "B"), b"not asked for")

    found: list[bytes] = []
    caught_up, done = anyio.Event(), anyio.Event()

    async def follow() -> None:
        async with aclosing(world.bus.follow("EVENTS", "orchestration.echo.*.A")) as messages:
            async for message in messages:
                found.append(message.body)
                if len(found) == 3:
                    caught_up.set()
                if message.body == b"last":
                    done.set()
                    return

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(follow)
            await caught_up.wait()
            await world.bus.publish(event("progress"), b"live")
            await world.bus.publish(event("progress", "B"), b"not asked for")
            await world.bus.publish(event("completed"), b"last")
            await done.wait()
    assert found == [b"0", b"1", b"2", b"live", b"last"]


async def test_following_after_a_sequence(world: World) -> None:
    await world.apply(EVENTS)
    for _ in range(5):
        await world.bus.publish(event("progress"), b"")
    found = await first(world.bus.follow("EVENTS", "orchestration.>", after=3), 2)
    assert [message.sequence for message in found] == [4, 5]


async def test_following_an_empty_stream_from_before_the_publish(world: World) -> None:
    await world.apply(EVENTS)
    found: list[Stored] = []

    async def follow() -> None:
        found.extend(await first(world.bus.follow("EVENTS", event("*")), 50))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(follow)
            for number in range(50):
                await world.bus.publish(event("progress"), b"%d" % number)
    assert [message.sequence for message in found] == list(range(1, 51))


async def test_followers_do_not_share(world: World) -> None:
    await world.apply(EVENTS)
    for _ in range(3):
        await world.bus.publish(event("progress"), b"")
    async with world.connect() as another:
        for bus in (world.bus, world.bus, another):
            found = await first(bus.follow("EVENTS", ">"), 3)
            assert [message.sequence for message in found] == [1, 2, 3]


async def test_following_skips_what_is_gone(world: World) -> None:
    await world.apply(BucketSpec(name="kinds", kind="kv"))
    for key in ("echo", "sum", "echo"):
        await world.bus.put("kinds", key, b"")
    found = await first(world.bus.follow("KV_kinds", ">"), 2)
    assert [message.sequence for message in found] == [2, 3]


async def test_a_work_queue_cannot_be_followed(world: World) -> None:
    await world.queue()
    with pytest.raises(Refused) as refused:
        await first(world.bus.follow("JOBS", ">"), 1)
    assert (refused.value.code, refused.value.err_code) == (400, 10098)


async def test_following_a_stream_that_does_not_exist_is_refused(world: World) -> None:
    with pytest.raises(Refused) as refused:
        await first(world.bus.follow("NONE", ">"), 1)
    assert refused.value.code == 404


# --- buckets


async def test_a_key_holds_the_last_value_put(world: World) -> None:
    await world.apply(BucketSpec(name="kinds", kind="kv"))
    assert await world.bus.value("kinds", "echo") is None
    for value in (b"1", b"", b"3"):
        await world.bus.put("kinds", "echo", value)
        await world.bus.put("kinds", "sum", b"other")
        assert await world.bus.value("kinds", "echo") == value
    assert await world.bus.get("KV_kinds", 1) is None


async def test_a_deleted_key_has_no_value(world: World) -> None:
    await world.apply(BucketSpec(name="kinds", kind="kv"))
    await world.bus.put("kinds", "echo", b"1")
    await world.bus.publish("$KV.kinds.echo", b"", {"KV-Operation": "DEL"})
    assert await world.bus.value("kinds", "echo") is None


async def test_a_key_that_is_not_put_again_expires(world: World) -> None:
    await world.apply(BucketSpec(name="workers", kind="kv", max_age_s=world.lease_s))
    await world.bus.put("workers", "gw-1", b"alive")

    async def expired() -> bool:
        return await world.bus.value("workers", "gw-1") is None

    await eventually(expired, world.lease_s)
    await world.bus.put("workers", "gw-1", b"back")
    assert await world.bus.value("workers", "gw-1") == b"back"


async def test_a_bucket_that_does_not_exist(world: World) -> None:
    with pytest.raises(Refused):
        await world.bus.put("none", "key", b"")
    with pytest.raises(Refused):
        await world.bus.value("none", "key")
