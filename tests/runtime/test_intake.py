"""Deliveries become tickets. What does not decode is dead on first sight, and takes nobody's id."""

from __future__ import annotations

from hashlib import sha256

import anyio
import pytest
from msgspec.structs import replace

from contracts import inbound, subjects
from contracts.events import Completed, Failed
from infra.bus.topology import StreamSpec, Topology
from infra.store.memory import MemoryStore
from tests.runtime.kinds import Puppet, Task, acting
from tests.runtime.samples import connected, delivered
from tests.runtime.world import APPROVED, World, names, plan, settings
from workers import JobContext
from workers.kinds.registry import Kind
from workers.runtime.intake import Intake
from workers.runtime.quarantine import Quarantine
from workers.runtime.settle import Settle

pytestmark = pytest.mark.anyio

UNDECODABLE = {
    "empty": b"",
    "not JSON": b"nonsense",
    "truncated": b'{"id":"a"',
    "no object": b"7",
    "wrong type": b'{"id":"a","value":"seven"}',
    "missing field": b'{"value":7}',
    "deep": b"[" * 100_000,
    "deep and closed": b'{"id":"a","value":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "invalid UTF-8": b'{"id":"\xff\xfe"}',
    "too large": b'{"id":"a","more":"' + b"x" * 1024 * 1024 + b'"}',
}


async def _value(ctx: JobContext, task: Task) -> int:
    return task.value


@pytest.fixture
def echo() -> Kind:
    """Returns its value."""
    return acting("echo", _value)


async def test_what_does_not_decode_fails_at_once_under_an_id_of_its_own(world: World, echo: Kind) -> None:
    jetray = await world.gateway(echo)
    world.server.max_payload = 2 * 1024 * 1024
    sequences = {what: await jetray.publish("jobs.echo", body) for what, body in UNDECODABLE.items()}
    for what, sequence in sequences.items():
        end = await jetray.end_of("echo", f"JOBS-{sequence}")
        assert isinstance(end, Failed), what
        reason = "too_large" if what == "too large" else "decode"
        assert (end.error.reason, end.error.retryable, end.attempts) == (reason, False, 0), what
        [letter] = [letter for letter in jetray.dead_letters() if letter.sequence == end.dlq_sequence]
        assert (letter.reason, letter.attempts, letter.body) == (reason, 0, UNDECODABLE[what]), what
        assert names(await jetray.events("echo", f"JOBS-{sequence}")) == ["failed"]
    assert await jetray.events("echo", "a") == [], "an id that was claimed is never taken"
    assert await jetray.result_of("echo", await jetray.submit("echo", {"id": "a", "value": 7})) == 7


async def test_what_it_claimed_to_be_about_is_told(world: World, echo: Kind) -> None:
    jetray = await world.gateway(echo)
    job_id = await jetray.submit("echo", b'{"id":"claimed","value":"seven"}')
    end = await jetray.end_of("echo", job_id)
    assert (end.job_id, end.subject_id) == ("JOBS-1", "claimed")


async def test_dlq_comes_first_then_failed_then_the_ack(world: World, echo: Kind) -> None:
    jetray = await world.gateway(echo)
    job_id = await jetray.submit("echo", b"nonsense")
    await jetray.end_of("echo", job_id)
    await world.settled(lambda: world.kept(subjects.JOBS) == [])
    ours = ("dlq.", "orchestration.", "jobs.")
    calls = [(op, subject) for op, subject, _ in jetray.hooks.calls if subject.startswith(ours)]
    assert [call for call in calls if call[0] in ("publish", "ack")] == [
        ("publish", f"dlq.echo.{job_id}"),
        ("publish", f"orchestration.echo.failed.{job_id}"),
        ("ack", "jobs.echo"),
    ]


async def test_a_crash_between_any_two_of_these_leaves_one_letter_and_one_end(world: World, echo: Kind) -> None:
    for stage in ("dlq.", "orchestration.echo.failed", "jobs.echo"):
        first = await world.gateway(echo)

        async def crash(op: str, subject: str, stage: str = stage) -> None:
            if op in ("publish", "ack") and subject.startswith(stage):
                first.bus.disconnect()  # noqa: B023  called before the loop goes on

        before = len(world.kept(subjects.DLQ))
        first.hooks.on_after = crash
        job_id = await first.submit("echo", b"nonsense")
        await anyio.sleep(5)
        await first.crash()
        second = await world.gateway(echo)
        assert isinstance(await second.end_of("echo", job_id), Failed)
        await world.settled(lambda: world.kept(subjects.JOBS) == [])
        assert names(await second.events("echo", job_id)) == ["failed"]
        assert len(world.kept(subjects.DLQ)) == before + 1
        await second.drain()


async def test_a_routed_message_that_does_not_decode_is_named_after_its_stream(world: World) -> None:
    jetray = await world.gateway()
    sequence = await jetray.publish(APPROVED, {"plan_id": "P1"})
    end = await jetray.end_of("plan", f"PLANNING-{sequence}")
    assert isinstance(end, Failed)
    assert (end.error.reason, end.subject_id, end.origin) == ("decode", "P1", f"PLANNING:{sequence}")
    await jetray.publish(APPROVED, {**plan("P1", "DEV"), "title": "foreign fields", "complexity": [1, {}]})
    assert isinstance(await jetray.end_of("plan", "P1"), Completed)


ODD_IDS = ["a.b", "*", ">", "a b", "line\nbreak", "ä" * 200, "x" * 129, " ", "\x00"]


@pytest.mark.parametrize("job_id", ODD_IDS, ids=ascii)
async def test_an_id_that_is_no_token_is_hashed_and_kept(world: World, echo: Kind, job_id: str) -> None:
    jetray = await world.gateway(echo)
    named = await jetray.submit("echo", {"id": job_id, "value": 7})
    assert named == sha256(job_id.encode()).hexdigest()
    assert await jetray.result_of("echo", named) == 7
    log = await jetray.events("echo", named)
    assert {event.subject_id for event in log} == {job_id}


async def test_an_id_that_is_no_text_is_none(world: World, echo: Kind) -> None:
    jetray = await world.gateway(echo)
    assert await jetray.submit("echo", {"id": "", "value": 7}) == "JOBS-1"
    assert await jetray.result_of("echo", "JOBS-1") == 7
    await jetray.submit("echo", b'{"id":"\\ud800","value":7}')
    assert isinstance(await jetray.end_of("echo", "JOBS-2"), Failed)


async def test_headers_that_would_keep_the_letter_out_are_kept_under_another_name(world: World, echo: Kind) -> None:
    # A stream of another owner that allows what ours do not.
    await world.client.apply(Topology(streams=(StreamSpec(name="SALES", subjects=("sales.>",)),)))
    terms = settings(routes=[{"subject": "sales.order", "kind": "echo"}])
    jetray = await world.gateway(echo, settings=terms)
    headers = {"Nats-Expected-Stream": "SALES", "Nats-Expected-Last-Sequence": "0", "X-Note": "kept"}
    sequence = await jetray.publish("sales.order", b"nonsense", headers=headers)
    end = await jetray.end_of("echo", f"SALES-{sequence}")
    assert isinstance(end, Failed)
    [letter] = jetray.dead_letters()
    assert letter.headers == headers
    [stored] = world.kept(subjects.DLQ)
    assert "Nats-Expected-Stream" not in stored.headers
    assert stored.headers["Jetray-Header-Nats-Expected-Stream"] == "SALES"
    assert stored.headers["Jetray-Origin-Subject"] == "sales.order"


async def test_headers_as_only_a_server_can_deliver_them(echo: Kind) -> None:
    """`Nats-TTL` is refused by streams that do not allow it, so it cannot be published here."""
    bus = await connected()
    delivery = await delivered(bus, b"nonsense")
    delivery = replace(delivery, headers={"Nats-TTL": "1h", "Nats-Schedule": "@every 1s"})
    received = await Intake(inbound.Limits(), Quarantine()).receive(delivery, echo)
    assert received.error is not None
    await Settle(bus, MemoryStore()).bury(delivery, received.ticket, "decode", run=1, attempts=0)
    [letter] = bus.server.stream(subjects.DLQ).messages()
    assert {name: value for name, value in letter.headers.items() if name.startswith("Jetray-Header-")} == {
        "Jetray-Header-Nats-TTL": "1h",
        "Jetray-Header-Nats-Schedule": "@every 1s",
    }


async def test_a_ticket_says_what_the_delivery_is_about(echo: Kind) -> None:
    bus = await connected()
    headers = {
        "Jetray-Job-Id": "g-a",
        "Jetray-Parent": "group.g",
        "Jetray-Index": "2",
        "Jetray-Run": "3",
        "Jetray-Origin": "PLANNING:9",
        "Jetray-Correlation-Id": "root",
        "Jetray-Deadline": "7.5",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }
    delivery = await delivered(bus, b'{"id":"own","value":7}', headers)
    received = await Intake(inbound.Limits(), Quarantine()).receive(delivery, echo)
    ticket = received.ticket
    assert (ticket.kind, ticket.job_id, ticket.subject_id, ticket.origin) == ("echo", "g-a", "own", "PLANNING:9")
    assert (ticket.parent, ticket.index, ticket.run, ticket.correlation_id) == ("group.g", 2, 3, "root")
    assert (ticket.delivery.sequence, ticket.delivery.number, ticket.queued, ticket.batch) == (1, 1, True, False)
    assert (received.input, received.error, received.deadline_s) == (Task(id="own", value=7), None, 7.5)
    assert received.traceparent == headers["traceparent"]


async def test_envelopes_and_cloudevents_are_read_too(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind)
    envelope = {
        "event_type": "task.asked",
        "idempotency_key": "key",
        "correlation_id": "corr",
        "timestamp": "2026-11-22T05:00:00Z",
        "producer": "tests",
        "payload": {"id": "enveloped"},
    }
    puppet.say("enveloped", 1)
    puppet.say("clouded", 2)
    assert await jetray.submit("puppet", envelope) == "enveloped"
    assert (await jetray.end_of("puppet", "enveloped")).correlation_id == "corr"
    event = {"specversion": "1.0", "id": "ce-1", "source": "/tests", "type": "asked", "data": {"id": "clouded"}}
    await jetray.submit("puppet", event, headers={"content-type": "application/cloudevents+json"})
    assert await jetray.result_of("puppet", "clouded") == 2
