"""A job log: compare-and-set, whoever answers and whoever does not."""

from __future__ import annotations

import itertools

import anyio
import msgspec
import pytest

from contracts import events, subjects
from contracts.events import LogEvent, Requeued
from infra.bus.base import NoAnswer
from infra.bus.memory import MemoryBus
from tests.runtime.samples import NOW, cancelled, completed, connected, progress, started
from tests.runtime.world import Hooks
from workers.core.log import EMPTY, LogView
from workers.runtime.journal import Journal, Written

pytestmark = pytest.mark.anyio

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


_processes = itertools.count()


def _journal(bus: MemoryBus, nonce: str = "one") -> Journal:
    return Journal(bus, nonce=nonce, source="gw-1")


async def _logged(bus: MemoryBus, *log: LogEvent, nonce: str = "") -> list[int]:
    """Write a log, by a process of its own unless `nonce` says which."""
    journal, sequences = _journal(bus, nonce or f"process-{next(_processes)}"), [0]
    for event in log:
        done = await journal.append(event, after=sequences[-1])
        assert isinstance(done, Written)
        sequences.append(done.sequence)
    return sequences[1:]


async def test_an_event_is_stored_as_a_cloudevent_under_the_logs_own_filter() -> None:
    bus = await connected()
    event = started()
    done = await _journal(bus).append(event, after=0, traceparent=TRACE)
    assert done == Written(1, "one.1")
    stored = await bus.get(subjects.EVENTS, 1)
    assert stored is not None
    assert stored.subject == "orchestration.echo.started.a"
    assert events.decode(stored.body) == event
    headers = dict(stored.headers)
    assert headers.pop("ce-id") == headers.pop("Nats-Msg-Id")
    assert headers == {
        "ce-specversion": "1.0",
        "ce-type": "jetray.echo.started.v1",
        "ce-source": "/jetray/gw-1",
        "ce-subject": "a",
        "ce-time": "2026-11-22T05:00:00Z",
        "ce-dataschema": "urn:jetray:schema:echo.started.v1",
        "content-type": "application/json",
        "Nats-Expected-Last-Subject-Sequence": "0",
        "Nats-Expected-Last-Subject-Sequence-Subject": "orchestration.echo.*.a",
        "traceparent": TRACE,
    }


async def test_each_write_has_an_id_of_its_own() -> None:
    bus = await connected()
    await _logged(bus, started(), progress(2), progress(3))
    await _logged(bus, started(job_id="b"))
    ids = [message.headers["ce-id"] for message in bus.server.stream(subjects.EVENTS).messages()]
    assert len(set(ids)) == 4


async def test_what_another_wrote_first_is_told_and_nothing_is_written() -> None:
    bus = await connected()
    await _logged(bus, started(gateway="gw-2"))
    journal = _journal(bus)
    view = await journal.append(started(), after=0)
    assert isinstance(view, LogView)
    assert (view.sequence, view.tail, view.mine) == (1, started(gateway="gw-2"), False)
    assert view.opening == view.tail
    await _logged(bus, cancelled(job_id="b"))
    view = await journal.append(started(job_id="b"), after=0)
    assert isinstance(view, LogView)
    assert (view.tail, view.opening) == (cancelled(job_id="b"), None)


async def test_logs_of_other_jobs_and_kinds_do_not_stand_in_the_way() -> None:
    bus = await connected()
    await _logged(bus, started(job_id="b"), completed(2, job_id="b"))
    await _logged(bus, started(kind="group"))
    assert await _journal(bus).append(started(), after=0) == Written(4, "one.1")


async def test_of_many_writers_one_wins_and_all_see_which() -> None:
    bus = await connected()
    [sequence] = await _logged(bus, started())
    won: list[str] = []
    seen: list[LogEvent | None] = []

    async def write(name: str) -> None:
        done = await _journal(bus, name).append(completed(gateway=name), after=sequence)
        if isinstance(done, Written):
            won.append(name)
        else:
            seen.append(done.tail)

    async with anyio.create_task_group() as group:
        for number in range(8):
            group.start_soon(write, f"gw-{number}")
    [winner] = won
    assert seen == [completed(gateway=winner)] * 7


@pytest.mark.parametrize("times", [1, 5])
async def test_a_lost_answer_is_found_out_by_reading_the_log(times: int) -> None:
    hooks = Hooks()
    bus = await connected(hooks)
    hooks.lose_answers("publish", "orchestration.", times)
    assert await _journal(bus).append(started(), after=0) == Written(1, "one.1")
    assert len([*bus.server.stream(subjects.EVENTS).messages()]) == 1


@pytest.mark.parametrize("times", [1, 5])
async def test_a_lost_request_is_repeated_byte_for_byte(times: int) -> None:
    hooks = Hooks()
    bus = await connected(hooks)
    hooks.lose_requests("publish", "orchestration.", times)
    assert await _journal(bus).append(started(), after=0) == Written(1, "one.1")
    [stored] = bus.server.stream(subjects.EVENTS).messages()
    assert stored.headers["ce-id"].endswith(".1"), "the first id of this journal"


async def test_a_lost_request_is_repeated_after_the_logs_last_event_too() -> None:
    hooks = Hooks()
    bus = await connected(hooks)
    [sequence] = await _logged(bus, started())
    hooks.lose_requests("publish", "orchestration.", times=3)
    assert await _journal(bus).append(completed(), after=sequence) == Written(sequence + 1, "one.1")


async def test_an_answer_that_is_lost_and_then_overtaken_is_still_ours_to_see() -> None:
    """Stored, its answer lost, and another event appended after it before we look."""
    hooks = Hooks()
    bus = await connected(hooks)

    async def overtake(op: str, subject: str) -> None:
        if (op, subject) == ("publish", "orchestration.echo.started.a"):
            await _journal(MemoryBus(bus.server), "two").append(cancelled(), after=1)
            raise NoAnswer("lost")

    hooks.on_after = overtake
    view = await _journal(bus).append(started(), after=0)
    assert isinstance(view, LogView)
    assert (view.sequence, view.tail, view.mine) == (2, cancelled(), False)
    assert view.opening == started()


async def test_while_the_bus_is_away_an_append_waits() -> None:
    bus = await connected()
    bus.disconnect()
    done: list[Written | LogView] = []

    async def write() -> None:
        done.append(await _journal(bus).append(started(), after=0))

    async with anyio.create_task_group() as group:
        group.start_soon(write)
        await anyio.sleep(1_000)
        assert done == []
        bus.reconnect()
    assert done == [Written(1, "one.1")]


async def test_while_events_is_full_an_append_waits() -> None:
    bus = await connected()
    stream = bus.server.stream(subjects.EVENTS)
    room, stream.config["max_bytes"] = stream.config["max_bytes"], 1
    done: list[Written | LogView] = []

    async def write() -> None:
        done.append(await _journal(bus).append(started(), after=0))

    async with anyio.create_task_group() as group:
        group.start_soon(write)
        await anyio.sleep(100)
        assert done == []
        stream.config["max_bytes"] = room
    assert done == [Written(1, "one.1")]


async def test_a_log_that_was_forgotten_under_a_write_reads_as_empty() -> None:
    bus = await connected()
    [sequence] = await _logged(bus, started())
    bus.server.forget(subjects.EVENTS, "orchestration.echo.*.a")
    assert await _journal(bus).append(completed(), after=sequence) == EMPTY


async def test_a_log_is_told_by_its_last_event_and_its_last_opening() -> None:
    bus = await connected()
    journal = _journal(bus)
    assert await journal.read("echo", "a") == EMPTY
    requeued = Requeued(
        kind="echo",
        job_id="a",
        n=3,
        run=2,
        attempt=1,
        time=NOW,
        gateway="gw-1",
        origin="JOBS:1",
        dlq_sequence=1,
        input_sha256="0" * 64,
    )
    log: list[LogEvent] = [started(), completed(2), requeued, started(4, run=2), progress(5, run=2)]
    sequences = await _logged(bus, *log, nonce="one")
    view = await journal.read("echo", "a")
    assert (view.sequence, view.tail, view.opening, view.mine) == (sequences[-1], log[4], log[3], True)
    assert not (await _journal(bus, "two").read("echo", "a")).mine
    assert not (await _journal(bus, "on").read("echo", "a")).mine, "another nonce that begins alike"
    found = await journal.requeued("echo", "a")
    assert found == (sequences[2], requeued)
    assert await journal.requeued("echo", "b") is None


async def test_a_requeued_log_opens_with_its_requeued() -> None:
    bus = await connected()
    requeued = msgspec.convert(
        {**msgspec.to_builtins(progress(3, run=2)), "event": "requeued", "dlq_sequence": 1, "input_sha256": "1" * 64},
        Requeued,
    )
    await _logged(bus, started(), completed(2), requeued)
    view = await _journal(bus).read("echo", "a")
    assert view.tail == view.opening == requeued


async def test_single_events_and_messages_are_found_by_sequence() -> None:
    bus = await connected()
    journal = _journal(bus)
    assert await journal.newest() == 0
    first, second = await _logged(bus, started(), completed(2))
    assert await journal.newest() == second
    assert await journal.at(first) == started()
    assert await journal.at(99) is None
    await bus.publish("jobs.echo", b"{}")
    assert await journal.exists(subjects.JOBS, 1)
    assert not await journal.exists(subjects.JOBS, 2)


async def test_reading_waits_for_the_bus() -> None:
    hooks = Hooks()
    bus = await connected(hooks)
    await _logged(bus, started())
    hooks.lose_answers("last", "orchestration.", times=10)
    assert (await _journal(bus).read("echo", "a")).tail == started()
