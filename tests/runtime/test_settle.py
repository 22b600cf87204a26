"""What a job's end leaves behind: dead letters, notices, acknowledgements."""

from __future__ import annotations

from hashlib import sha256

import anyio
import msgspec
import pytest

from contracts import joins, subjects
from contracts.joins import Notice
from infra.bus.base import Stored
from infra.bus.memory import MemoryBus
from infra.store.memory import MemoryStore
from tests.runtime.samples import cancelled, completed, connected, delivered, failed, progress, ticket
from tests.runtime.world import Hooks
from workers.runtime.settle import Settle

pytestmark = pytest.mark.anyio


def _kept(bus: MemoryBus, stream: str) -> list[Stored]:
    return [*bus.server.stream(stream).messages()]


async def test_a_dead_letter_has_the_bytes_the_headers_and_where_it_came_from() -> None:
    bus = await connected()
    headers = {"X-Note": "kept", "Nats-Msg-Id": "its own", "traceparent": "00-x"}
    delivery = await delivered(bus, b"\x00\xff not JSON", headers)
    sequence = await Settle(bus, MemoryStore()).bury(delivery, ticket(), "decode", run=2, attempts=3)
    [letter] = _kept(bus, subjects.DLQ)
    assert (letter.sequence, letter.subject, letter.body) == (sequence, "dlq.echo.a", b"\x00\xff not JSON")
    assert dict(letter.headers) == {
        "Nats-Msg-Id": "JOBS-1.decode",
        "Jetray-Kind": "echo",
        "Jetray-Job-Id": "a",
        "Jetray-Run": "2",
        "Jetray-Reason": "decode",
        "Jetray-Attempts": "3",
        "Jetray-Origin": "JOBS:1",
        "Jetray-Origin-Subject": "jobs.echo",
        **{f"Jetray-Header-{name}": value for name, value in headers.items()},
    }


async def test_buried_twice_it_is_stored_once() -> None:
    hooks = Hooks()
    bus = await connected(hooks)
    settle = Settle(bus, MemoryStore())
    delivery = await delivered(bus)
    hooks.lose_answers("publish", "dlq.", times=2)
    first = await settle.bury(delivery, ticket(), "user", run=1, attempts=1)
    assert await settle.bury(delivery, ticket(), "user", run=1, attempts=1) == first
    assert len(_kept(bus, subjects.DLQ)) == 1


@pytest.mark.parametrize("what", ["body", "headers"])
async def test_what_does_not_fit_with_its_new_headers_goes_by_reference(what: str) -> None:
    bus = await connected(max_payload=70_000)
    store = MemoryStore()
    if what == "body":
        body, headers = b"x" * 69_900, {"X-Note": "kept"}
    else:
        # Under their longer names they are over what JetStream takes in headers alone.
        body, headers = b"x", {f"X-{number}": "y" * 50 for number in range(1_000)}
    delivery = await delivered(bus, body, headers)
    await Settle(bus, store).bury(delivery, ticket(), "too_large", run=1, attempts=0)
    [letter] = _kept(bus, subjects.DLQ)
    assert letter.body == b""
    assert letter.headers["Jetray-Reason"] == "too_large"
    assert await store.get(letter.headers["Jetray-Body-Artifact"]) == body
    assert letter.headers["Jetray-Body-Sha256"] == sha256(body).hexdigest()
    assert msgspec.json.decode(await store.get(letter.headers["Jetray-Headers-Artifact"])) == headers


async def test_a_full_dlq_is_waited_for() -> None:
    bus = await connected()
    delivery = await delivered(bus)
    stream = bus.server.stream(subjects.DLQ)
    room, stream.config["max_bytes"] = stream.config["max_bytes"], 1
    done: list[int] = []

    async def bury() -> None:
        done.append(await Settle(bus, MemoryStore()).bury(delivery, ticket(), "user", run=1, attempts=1))

    async with anyio.create_task_group() as group:
        group.start_soon(bury)
        await anyio.sleep(1_000)
        assert done == []
        stream.config["max_bytes"] = room
    assert done == [1]


@pytest.mark.parametrize(
    ("end", "outcome"), [(completed(), "completed"), (failed(), "failed"), (cancelled(), "cancelled")]
)
async def test_an_end_owes_a_notice_to_the_batch(end: object, outcome: str) -> None:
    hooks = Hooks()
    bus = await connected(hooks)
    settle = Settle(bus, MemoryStore())
    hooks.lose_answers("publish", "joins.")
    for _ in range(2):
        await settle.pay(ticket(parent="group.g", index=3), end, 17)  # type: ignore[arg-type]
    [stored] = _kept(bus, subjects.JOINS)
    assert stored.subject == "joins.group.g"
    assert joins.decode(stored.body) == Notice(child="echo.a", index=3, outcome=outcome, run=1, sequence=17)  # type: ignore[arg-type]


async def test_the_batch_of_the_log_and_the_batch_of_the_message_are_both_told() -> None:
    bus = await connected()
    await Settle(bus, MemoryStore()).pay(ticket(parent="group.late"), completed(parent="group.first"), 17)
    assert {stored.subject for stored in _kept(bus, subjects.JOINS)} == {"joins.group.first", "joins.group.late"}


async def test_what_has_no_batch_or_no_end_owes_nothing() -> None:
    bus = await connected()
    settle = Settle(bus, MemoryStore())
    await settle.pay(ticket(), completed(), 17)
    await settle.pay(ticket(parent="group.g"), progress(), 17)
    await settle.pay_refused(ticket(), 1)
    assert _kept(bus, subjects.JOINS) == []


async def test_a_refused_child_is_told_to_the_batch_that_its_message_names() -> None:
    bus = await connected()
    await Settle(bus, MemoryStore()).pay_refused(ticket(parent="group.g", index=1), 5)
    [stored] = _kept(bus, subjects.JOINS)
    assert joins.decode(stored.body) == Notice(child="echo.a", index=1, outcome="refused", run=1, sequence=5)


async def test_nothing_that_settles_is_sent_while_disconnected() -> None:
    bus = await connected()
    settle = Settle(bus, MemoryStore())
    delivery = await delivered(bus)
    bus.disconnect()
    await settle.ack(delivery)
    await settle.nak(delivery, 0.0)
    await anyio.sleep(10)
    bus.reconnect()
    assert len(_kept(bus, subjects.JOBS)) == 1
    assert (await bus.consumer("JOBS", "echo")).unacknowledged == 1
    await settle.ack(delivery)
    assert _kept(bus, subjects.JOBS) == []


async def test_a_delay_is_the_servers_to_keep() -> None:
    bus = await connected()
    delivery = await delivered(bus)
    began = anyio.current_time()
    await Settle(bus, MemoryStore()).nak(delivery, 300.0)
    async with bus.pull("JOBS", "echo") as puller:
        puller.grant(1)
        again = await puller.receive()
    assert again.number == 2
    assert anyio.current_time() - began == pytest.approx(300)
