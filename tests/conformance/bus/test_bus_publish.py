"""Publishing: what is stored, what is a duplicate, what is refused, and in which order the server looks."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import anyio
import pytest

from contracts.headers import EXPECTED_FILTER, EXPECTED_SEQUENCE, MSG_ID
from infra.bus.base import Disconnected, NoSuchSubject, Outgoing, PubAck, Refused, StreamFull, TooLarge, WrongSequence
from infra.bus.topology import StreamSpec
from tests.conformance.bus.world import World, bodies, eventually

pytestmark = pytest.mark.anyio

EVENTS = StreamSpec(name="EVENTS", subjects=("orchestration.*.*.*",), discard="new", deny_delete=True)
LOG = "orchestration.echo.*.A"
STARTED, COMPLETED = "orchestration.echo.started.A", "orchestration.echo.completed.A"


def after(sequence: int, log: str = LOG, message_id: str = "") -> dict[str, str]:
    """Headers of an append."""
    headers = {EXPECTED_SEQUENCE: str(sequence), EXPECTED_FILTER: log}
    return headers | {MSG_ID: message_id} if message_id else headers


async def test_an_acknowledgement_names_stream_and_sequence(world: World) -> None:
    await world.apply(EVENTS)
    assert await world.bus.publish(STARTED, b"1") == PubAck("EVENTS", 1)
    assert await world.bus.publish(COMPLETED, b"2", {}) == PubAck("EVENTS", 2)


async def test_a_subject_without_a_stream_is_refused(world: World) -> None:
    await world.apply(EVENTS)
    with pytest.raises(NoSuchSubject) as refused:
        await world.bus.publish("orchestration.echo.started", b"")
    assert refused.value.code == 503


@pytest.mark.parametrize("subject", ["", "jobs.a b", "jobs.a\r\nPUB x 0\r\n"])
async def test_what_is_no_subject_is_an_error_of_the_caller(world: World, subject: str) -> None:
    await world.apply(StreamSpec(name="JOBS", subjects=("jobs.>",)))
    with pytest.raises(ValueError):
        await world.bus.publish(subject, b"")
    assert await world.bus.last("JOBS", "jobs.>") is None


async def test_many_are_stored_each_for_itself_and_answered_in_their_order(world: World) -> None:
    await world.apply(EVENTS)
    large = b"x" * (8 * 1024 * 1024)
    answers = await world.bus.publish_many(
        [
            Outgoing(STARTED, b"1", after(0)),
            Outgoing(COMPLETED, b"2", after(7)),
            Outgoing("nobody.takes.this", b"3"),
            Outgoing("orchestration.echo.started.B", large),
            Outgoing("orchestration.echo.started.C", b"5", after(0, "orchestration.echo.*.C")),
        ]
    )
    assert [type(answer) for answer in answers] == [PubAck, WrongSequence, NoSuchSubject, TooLarge, PubAck]
    stored = [await world.bus.get("EVENTS", answer.sequence) for answer in answers if isinstance(answer, PubAck)]
    assert sorted(message.body for message in stored if message is not None) == [b"1", b"5"]


async def test_many_are_stored_in_their_order(world: World) -> None:
    await world.apply(EVENTS)
    bodies = [str(number).encode() for number in range(100)]
    answers = await world.bus.publish_many([Outgoing(STARTED, body) for body in bodies])
    assert [answer.sequence for answer in answers if isinstance(answer, PubAck)] == [*range(1, 101)]
    stored = [await world.bus.get("EVENTS", sequence) for sequence in range(1, 101)]
    assert [message.body for message in stored if message is not None] == bodies


async def test_of_many_without_a_connection_none_is_sent(world: World) -> None:
    await world.apply(EVENTS)
    async with world.outage():
        answers = await world.bus.publish_many([Outgoing(STARTED, b"1"), Outgoing(COMPLETED, b"2")])
        assert [type(answer) for answer in answers] == [Disconnected, Disconnected]

    async def back() -> bool:
        return world.bus.connected

    await eventually(back, world.lease_s)
    assert await world.bus.last("EVENTS", ">") is None


# --- duplicates


async def test_the_same_id_is_stored_once_and_answers_with_the_first_sequence(world: World) -> None:
    await world.apply(EVENTS)
    first = await world.bus.publish(STARTED, b"1", {MSG_ID: "x"})
    await world.bus.publish(STARTED, b"2")
    assert await world.bus.publish(STARTED, b"3", {MSG_ID: "x"}) == PubAck("EVENTS", first.sequence, duplicate=True)
    last = await world.bus.last("EVENTS", ">")
    assert last is not None
    assert last.body == b"2"


async def test_ids_span_the_subjects_of_a_stream_and_not_streams(world: World) -> None:
    await world.apply(EVENTS, StreamSpec(name="DLQ", subjects=("dlq.*.*",)))
    await world.bus.publish(STARTED, b"", {MSG_ID: "x"})
    assert (await world.bus.publish("orchestration.sum.started.B", b"", {MSG_ID: "x"})).duplicate
    assert not (await world.bus.publish("dlq.echo.A", b"", {MSG_ID: "x"})).duplicate


async def test_an_id_outlives_its_message(world: World) -> None:
    await world.queue()
    first = await world.bus.publish("jobs.echo", b"", {MSG_ID: "x"})
    [delivery] = await world.lease()
    await world.bus.ack(delivery)
    await world.until(lambda state: state.depth == 0)
    assert await world.bus.get("JOBS", first.sequence) is None
    assert await world.bus.publish("jobs.echo", b"", {MSG_ID: "x"}) == PubAck("JOBS", first.sequence, duplicate=True)


async def test_an_id_is_forgotten_after_the_window(world: World) -> None:
    await world.apply(StreamSpec(name="JOBS", subjects=("jobs.echo",), duplicate_window_s=world.lease_s))
    first = await world.bus.publish("jobs.echo", b"1", {MSG_ID: "x"})

    async def stored_again() -> bool:
        return not (await world.bus.publish("jobs.echo", b"2", {MSG_ID: "x"})).duplicate

    await eventually(stored_again, world.lease_s)
    second = await world.bus.last("JOBS", "jobs.echo")
    assert second is not None
    assert (second.sequence, second.body) == (first.sequence + 1, b"2")


# --- compare-and-set


async def test_an_append_names_the_sequence_it_comes_after(world: World) -> None:
    await world.apply(EVENTS)
    first = await world.bus.publish(STARTED, b"", after(0))
    await world.bus.publish("orchestration.echo.started.B", b"", after(0, "orchestration.echo.*.B"))
    with pytest.raises(WrongSequence) as refused:
        await world.bus.publish(COMPLETED, b"", after(0))
    assert (refused.value.code, refused.value.err_code) == (400, 10071)
    assert f"last sequence: {first.sequence}" in refused.value.description
    second = await world.bus.publish(COMPLETED, b"", after(first.sequence))
    assert second.sequence == first.sequence + 2


async def test_after_something_in_an_empty_log_is_refused(world: World) -> None:
    await world.apply(EVENTS)
    await world.bus.publish("orchestration.echo.started.B", b"")
    with pytest.raises(WrongSequence, match="last sequence: 0"):
        await world.bus.publish(COMPLETED, b"", after(1))


async def test_without_a_filter_the_subject_itself_is_compared(world: World) -> None:
    await world.apply(EVENTS)
    first = await world.bus.publish(STARTED, b"")
    with pytest.raises(WrongSequence):
        await world.bus.publish(STARTED, b"", {EXPECTED_SEQUENCE: "0"})
    await world.bus.publish(COMPLETED, b"", {EXPECTED_SEQUENCE: "0"})
    await world.bus.publish(STARTED, b"", {EXPECTED_SEQUENCE: str(first.sequence)})


async def test_a_filter_need_not_cover_the_subject(world: World) -> None:
    await world.apply(EVENTS)
    await world.bus.publish(STARTED, b"")
    assert (await world.bus.publish(COMPLETED, b"", after(0, "orchestration.echo.*.B"))).sequence == 2


async def test_a_filter_without_a_sequence_is_refused(world: World) -> None:
    await world.apply(EVENTS)
    with pytest.raises(Refused) as refused:
        await world.bus.publish(STARTED, b"", {EXPECTED_FILTER: LOG})
    assert refused.value.err_code == 10193


async def test_a_sequence_that_is_no_number_is_wrong(world: World) -> None:
    await world.apply(EVENTS)
    with pytest.raises(WrongSequence):
        await world.bus.publish(STARTED, b"", {EXPECTED_SEQUENCE: "first"})


async def test_the_sequence_is_compared_before_the_id(world: World) -> None:
    await world.apply(EVENTS)
    first = await world.bus.publish(STARTED, b"", after(0, message_id="x"))
    with pytest.raises(WrongSequence):
        await world.bus.publish(STARTED, b"", after(0, message_id="x"))
    repeated = await world.bus.publish(STARTED, b"", after(first.sequence, message_id="x"))
    assert repeated == PubAck("EVENTS", first.sequence, duplicate=True)


async def test_a_refused_id_is_not_remembered(world: World) -> None:
    await world.apply(EVENTS)
    with pytest.raises(WrongSequence):
        await world.bus.publish(STARTED, b"", after(7, message_id="x"))
    assert not (await world.bus.publish(STARTED, b"", after(0, message_id="x"))).duplicate


async def test_of_writers_after_the_same_event_exactly_one_wins(world: World) -> None:
    await world.apply(EVENTS)
    async with world.connect() as another:
        for round_ in range(20):
            log = f"orchestration.echo.*.R{round_}"
            outcomes: Counter[str] = Counter()

            async def write(writer: int, log: str = log, outcomes: Counter[str] = outcomes) -> None:
                bus = another if writer % 2 else world.bus
                try:
                    await bus.publish(log.replace("*", f"e{writer}"), b"", after(0, log, f"{log}{writer}"))
                except WrongSequence:
                    outcomes["lost"] += 1
                else:
                    outcomes["won"] += 1

            async with anyio.create_task_group() as group:
                for writer in range(4):
                    group.start_soon(write, writer)
            assert outcomes == {"won": 1, "lost": 3}


# --- room


async def test_a_full_subject_refuses_and_others_do_not(world: World) -> None:
    await world.queue(max_per_subject=2)
    await world.enqueue(b"1", b"2")
    with pytest.raises(StreamFull) as refused:
        await world.bus.publish("jobs.echo", b"3", {MSG_ID: "x"})
    assert (refused.value.code, refused.value.err_code) == (503, 10077)
    await world.bus.publish("jobs.sum", b"")
    [delivery] = await world.lease()
    await world.bus.ack(delivery)
    await world.until(lambda state: state.depth == 1)
    assert not (await world.bus.publish("jobs.echo", b"3", {MSG_ID: "x"})).duplicate
    assert bodies(await world.lease(2)) == [b"2", b"3"]


async def test_leased_messages_take_room(world: World) -> None:
    await world.queue(max_per_subject=1)
    await world.enqueue(b"1")
    await world.lease()
    with pytest.raises(StreamFull):
        await world.bus.publish("jobs.echo", b"2")


@pytest.mark.parametrize(("short_by", "fit"), [(0, 2), (1, 1)])
@pytest.mark.parametrize(("headers", "block"), [({}, 0), ({"A": "12"}, len(b"NATS/1.0\r\nA: 12\r\n\r\n") + 4)])
async def test_a_stream_full_by_bytes_refuses_and_forgets_nothing(
    world: World, headers: dict[str, str], block: int, short_by: int, fit: int
) -> None:
    # A record is body and subject, headers with 4 more, and 30 for itself.
    size = 42 + len(STARTED) + block + 30
    await world.apply(replace(EVENTS, max_bytes=2 * size - short_by))
    for _ in range(fit):
        await world.bus.publish(STARTED, b"x" * 42, headers)
    with pytest.raises(StreamFull) as refused:
        await world.bus.publish(STARTED, b"x" * 42, headers)
    assert (refused.value.code, refused.value.err_code) == (503, 10077)
    assert await world.bus.get("EVENTS", 1) is not None


async def test_in_a_full_stream_a_message_may_replace_one_that_is_no_smaller(world: World) -> None:
    await world.apply(
        StreamSpec(name="STATE", subjects=("state.*",), discard="new", max_msgs_per_subject=1, max_bytes=200)
    )
    await world.bus.publish("state.a", b"x" * 80)
    await world.bus.publish("state.b", b"x" * 40)
    with pytest.raises(StreamFull):
        await world.bus.publish("state.b", b"x" * 60)
    assert (await world.bus.publish("state.a", b"y" * 80)).sequence == 3
    assert (await world.bus.publish("state.b", b"y" * 40)).sequence == 4
    assert await world.bus.get("STATE", 1) is None


async def test_a_full_stream_still_compares_and_still_knows_its_ids(world: World) -> None:
    await world.apply(replace(EVENTS, max_bytes=300))
    await world.bus.publish(STARTED, b"", after(0, message_id="x"))
    with pytest.raises(StreamFull):
        await world.bus.publish(COMPLETED, b"", after(1))
    with pytest.raises(WrongSequence):
        await world.bus.publish(COMPLETED, b"", after(0))
    assert (await world.bus.publish(COMPLETED, b"", {MSG_ID: "x"})).duplicate


async def test_discarding_old_makes_room(world: World) -> None:
    await world.apply(StreamSpec(name="AGENTS", subjects=("agent.*.*.*",), discard="old", max_bytes=300))
    for body in (b"1", b"2", b"3"):
        await world.bus.publish("agent.response.progress.A", body * 80)
    assert await world.bus.get("AGENTS", 1) is None
    last = await world.bus.last("AGENTS", ">")
    assert last is not None
    assert last.body == b"3" * 80


async def test_too_large_is_refused_before_it_is_sent_and_headers_count(world: World) -> None:
    await world.apply(EVENTS)
    with pytest.raises(TooLarge) as refused:
        await world.bus.publish(STARTED, b"x" * (16 * 1024 * 1024))
    limit = refused.value.limit
    block = len(b"NATS/1.0\r\nA: 12\r\n\r\n")
    with pytest.raises(TooLarge) as refused:
        await world.bus.publish(STARTED, b"x" * (limit - block + 1), {"A": "12"})
    assert refused.value.size == limit + 1
    assert (await world.bus.publish(STARTED, b"x" * (limit - block), {"A": "12"})).sequence == 1


async def test_headers_alone_may_be_too_large(world: World) -> None:
    await world.apply(EVENTS)
    room = 65_535 - len(b"NATS/1.0\r\nA: \r\n\r\n")
    with pytest.raises(TooLarge) as refused:
        await world.bus.publish(STARTED, b"", {"A": "x" * (room + 1)})
    assert (refused.value.size, refused.value.limit) == (65_536, 65_535)
    assert (await world.bus.publish(STARTED, b"", {"A": "x" * room})).sequence == 1


# --- headers that the server reads


@pytest.mark.parametrize(
    ("name", "value", "err_code"),
    [
        ("Nats-Expected-Stream", "ELSEWHERE", 10060),
        ("Nats-Expected-Last-Sequence", "7", 10071),
        ("Nats-Expected-Last-Msg-Id", "7", 10070),
        ("Nats-TTL", "1s", 10166),
        ("Nats-Rollup", "sub", 10111),
        ("Nats-Incr", "1", 10168),
        ("Nats-Schedule", "@at 2030-01-01T00:00:00Z", 10188),
        ("Nats-Batch-Id", "x", 10174),
    ],
)
async def test_headers_that_make_a_copy_refusable(world: World, name: str, value: str, err_code: int) -> None:
    await world.apply(EVENTS)
    with pytest.raises(Refused) as refused:
        await world.bus.publish(STARTED, b"", {name: value})
    assert refused.value.err_code == err_code
    assert await world.bus.last("EVENTS", ">") is None


async def test_expectations_that_hold_are_stored_with_the_message(world: World) -> None:
    await world.apply(EVENTS)
    headers = {"Nats-Expected-Stream": "EVENTS", "Nats-Expected-Last-Sequence": "0"}
    stored = await world.bus.get("EVENTS", (await world.bus.publish(STARTED, b"", headers)).sequence)
    assert stored is not None
    assert stored.headers == headers
