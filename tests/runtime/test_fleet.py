"""What a gateway says of itself: for eyes, never for decisions, and nobody waits for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec
import pytest

from contracts import subjects
from contracts.errors import ErrorInfo
from contracts.fleet import (
    ActorFailed,
    ActorInitialized,
    ActorRestarted,
    ActorRetired,
    GatewayDraining,
    GatewayStatus,
    GatewayStopped,
    PoolCreated,
    Versions,
)
from infra.bus.base import Refused
from infra.bus.memory import MemoryBus
from infra.pool.base import PoolEvent
from tests.runtime.samples import cancelled, completed, connected, failed, progress, started
from tests.runtime.world import Hooks, settings
from workers.runtime.fleet import BACKLOG, Fleet

pytestmark = pytest.mark.anyio

VERSIONS = Versions(jetray="0.1.0", python="3.11.7", ray=None, nats_server="memory")


def _fleet(bus: MemoryBus) -> Fleet:
    return Fleet(bus, gateway="gw-1", nonce="nonce", versions=VERSIONS)


@asynccontextmanager
async def _serving(fleet: Fleet) -> AsyncIterator[None]:
    async with anyio.create_task_group() as group:
        group.start_soon(fleet.serve)
        await anyio.sleep(1)
        yield
        await anyio.sleep(1)
        group.cancel_scope.cancel()


def _said(bus: MemoryBus) -> list[tuple[str, dict[str, Any]]]:
    return [(message.subject, msgspec.json.decode(message.body)) for message in bus.server.stream("WORKERS").messages()]


async def test_an_event_says_who_when_and_what_as_a_cloudevent() -> None:
    bus = await connected()
    fleet = _fleet(bus)
    async with _serving(fleet):
        fleet.say(GatewayDraining, reason="SIGTERM", active=3)
    [message] = bus.server.stream("WORKERS").messages()
    assert message.subject == "workers.gateway.draining.gw-1"
    assert msgspec.json.decode(message.body) == {
        "event": "gateway.draining",
        "gateway": "gw-1",
        "time": "2026-01-01T00:00:01Z",
        "reason": "SIGTERM",
        "active": 3,
    }
    headers = message.headers
    assert headers["ce-type"] == "jetray.workers.gateway.draining.v1"
    assert headers["ce-source"] == "/jetray/gw-1"
    assert headers["ce-id"] == headers["Nats-Msg-Id"]


async def test_saying_something_waits_for_nobody_and_what_is_too_much_is_dropped() -> None:
    bus = await connected()
    fleet = _fleet(bus)
    for number in range(BACKLOG + 50):
        fleet.say(GatewayDraining, reason="test", active=number)
    async with _serving(fleet):
        pass
    assert [body["active"] for _, body in _said(bus)] == [*range(BACKLOG)]


async def test_what_the_bus_refuses_is_dropped_and_the_next_is_said() -> None:
    hooks = Hooks()
    bus = await connected(hooks)
    fleet = _fleet(bus)
    refusals = [Refused(400, 10070, "no")]

    async def refuse(op: str, subject: str) -> None:
        if subject.startswith("workers.") and refusals:
            raise refusals.pop()

    hooks.on_before = refuse
    async with _serving(fleet):
        fleet.say(GatewayDraining, reason="test", active=1)
        fleet.say(GatewayDraining, reason="test", active=2)
    assert [body["active"] for _, body in _said(bus)] == [2]


async def test_what_is_said_during_an_outage_is_heard_after_it_once_and_in_order() -> None:
    hooks = Hooks()
    bus = await connected(hooks)
    fleet = _fleet(bus)
    hooks.lose_answers("publish", "workers.", times=1)
    async with _serving(fleet):
        fleet.say(GatewayDraining, reason="test", active=1)
        await anyio.sleep(1)
        bus.disconnect()
        fleet.say(GatewayDraining, reason="test", active=2)
        fleet.say(GatewayDraining, reason="test", active=3)
        await anyio.sleep(60)
        bus.reconnect()
        await anyio.sleep(10)
    said = _said(bus)
    assert [body["active"] for subject, body in said if "draining" in subject] == [1, 2, 3]
    [away] = [body["away_ms"] for subject, body in said if subject == "workers.gateway.reconnected.gw-1"]
    assert 55_000 <= away <= 65_000


async def test_last_words_are_said_in_time_or_not_at_all() -> None:
    bus = await connected()
    fleet = _fleet(bus)
    fleet.say(GatewayStopped, uptime_ms=1)
    await fleet.last_words(2.0)
    assert [subject for subject, _ in _said(bus)] == ["workers.gateway.stopped.gw-1"]

    async def slow(op: str, subject: str) -> None:
        await anyio.sleep(100)

    hooks = Hooks()
    hooks.on_before = slow
    fleet = _fleet(MemoryBus(bus.server, faults=hooks))
    fleet.say(GatewayStopped, uptime_ms=1)
    began = anyio.current_time()
    await fleet.last_words(2.0)
    assert anyio.current_time() - began == pytest.approx(2)


ERROR = ErrorInfo(reason="lost", type="ActorDied", message="it died")


@pytest.mark.parametrize(
    ("event", "kind", "fields"),
    [
        (
            PoolEvent(what="created", profile="default", actors=("one", "two")),
            PoolCreated,
            {"actors": ["one", "two"], "slots": 6, "cpus": 0.5, "gpus": 0.0, "memory": 0},
        ),
        (
            PoolEvent(what="initialized", profile="default", actor="one", duration_s=0.25),
            ActorInitialized,
            {"actor": "one", "duration_ms": 250},
        ),
        (
            PoolEvent(what="failed", profile="default", actor="one", error=ERROR, jobs=("echo.a",), executions=7),
            ActorFailed,
            {"actor": "one", "error": msgspec.to_builtins(ERROR), "jobs": ["echo.a"], "executions": 7},
        ),
        (
            PoolEvent(what="restarted", profile="default", actor="two", replaces="one", restarts=1, reason="ActorDied"),
            ActorRestarted,
            {"actor": "two", "replaces": "one", "restarts": 1, "reason": "ActorDied"},
        ),
        (
            PoolEvent(what="retired", profile="default", actor="one", reason="stopped", executions=7),
            ActorRetired,
            {"actor": "one", "reason": "stopped", "executions": 7},
        ),
    ],
    ids=lambda value: value.what if isinstance(value, PoolEvent) else "",
)
async def test_what_happens_to_a_pool_is_said(event: PoolEvent, kind: Any, fields: dict[str, Any]) -> None:
    bus = await connected()
    fleet = _fleet(bus)
    profiles = settings(profiles={"default": {"actors": 2, "concurrency": 3, "cpus": 0.5}}).profiles
    async with _serving(fleet):
        fleet.pool_event(profiles, event)
    [(subject, body)] = _said(bus)
    assert subject == f"workers.{'.'.join(kind.words())}.gw-1"
    assert {**body, **fields, "profile": "default"} == body
    assert isinstance(msgspec.convert(body, kind), kind)


async def test_its_key_tells_active_jobs_and_totals_and_is_renewed() -> None:
    bus = await connected()
    fleet = _fleet(bus)
    fleet.known(["echo", "idle"])
    fleet.depths["echo"] = 4
    for event in (started(), started(job_id="b"), started(job_id="c"), started(job_id="d"), started(job_id="e")):
        fleet.appended(event)
    fleet.appended(progress())
    fleet.appended(completed(job_id="b", duration_ms=10))
    fleet.appended(completed(job_id="c", duration_ms=20))
    fleet.appended(failed(job_id="d"))
    fleet.appended(cancelled(job_id="e"))
    fleet.become("serving")
    async with _serving(fleet):
        value = await bus.value(subjects.WORKERS_KV, "gw-1")
        assert value is not None
        status = msgspec.json.decode(value, type=GatewayStatus)
        assert [job.job_id for job in status.active] == ["a"]
        echo, idle = status.kinds["echo"], status.kinds["idle"]
        assert (echo.active, echo.completed, echo.failed, echo.cancelled, echo.retried) == (1, 2, 1, 1, 0)
        assert (echo.average_ms, echo.depth) == (15.0, 4)
        assert (idle.active, idle.completed, idle.average_ms, idle.depth) == (0, 0, 0.0, None)
        assert (status.state, status.versions) == ("serving", VERSIONS)
        fleet.forget("echo", "a")
        await anyio.sleep(40)
        value = await bus.value(subjects.WORKERS_KV, "gw-1")
        assert value is not None, "the bucket forgets after 30 s what is not renewed"
        assert msgspec.json.decode(value, type=GatewayStatus).active == []
    await anyio.sleep(40)
    assert await bus.value(subjects.WORKERS_KV, "gw-1") is None


async def test_another_state_shows_at_once() -> None:
    bus = await connected()
    fleet = _fleet(bus)
    async with _serving(fleet):
        for state in ("serving", "draining"):
            fleet.become(state)
            await anyio.sleep(0.1)
            value = await bus.value(subjects.WORKERS_KV, "gw-1")
            assert value is not None
            assert msgspec.json.decode(value, type=GatewayStatus).state == state


async def test_a_key_that_cannot_be_renewed_is_renewed_later() -> None:
    bus = await connected()
    fleet = _fleet(bus)
    async with _serving(fleet):
        bus.disconnect()
        await anyio.sleep(60)
        bus.reconnect()
        await anyio.sleep(6)
        assert await bus.value(subjects.WORKERS_KV, "gw-1") is not None
