"""The streams and consumers that a gateway needs."""

from __future__ import annotations

import pytest

from infra.bus.base import StreamFull
from infra.bus.memory import MemoryBus, MemoryServer
from infra.bus.topology import Foreign, StreamSpec, Topology
from tests.runtime.world import settings
from workers.core.credit import ahead
from workers.runtime.topology import lane_durable, topology
from workers.settings import Settings

pytestmark = pytest.mark.anyio


def _settings(**sections: object) -> Settings:
    return settings(gateway={"name": "gw-1", "ack_wait_s": 45}, **sections)


def _specs(terms: Settings, *kinds: str) -> dict[str, StreamSpec]:
    return {stream.name: stream for stream in topology(terms, kinds).streams}


def test_streams_keep_what_the_design_says_for_as_long_as_it_says() -> None:
    streams = _specs(_settings(), "echo")
    day = 86_400.0
    assert {name: (spec.subjects, spec.retention, spec.discard, spec.max_age_s) for name, spec in streams.items()} == {
        "JOBS": (("jobs.echo", "jobs.echo.high"), "workqueue", "new", 0.0),
        "EVENTS": (("orchestration.*.*.*",), "limits", "new", 3 * day),
        "AGENTS": (("agent.*.*.*",), "limits", "old", day),
        "WORKERS": (("workers.*.*.*",), "limits", "old", day),
        "JOINS": (("joins.*.*",), "limits", "old", 3 * day),
        "CONTROL": (("control.>",), "workqueue", "old", day),
        "DLQ": (("dlq.*.*",), "limits", "new", 30 * day),
    }
    assert streams["EVENTS"].deny_delete
    assert streams["EVENTS"].max_bytes == 8 * 1024**3
    assert streams["JOBS"].discard_per_subject


def test_settings_have_their_say() -> None:
    terms = _settings(
        streams={
            "replicas": 3,
            "jobs_per_kind": 7,
            "events_max_bytes": 1_000,
            "events_max_age_s": 200_000,
            "dlq_max_bytes": 2_000,
            "dlq_max_age_s": 50,
        }
    )
    streams = _specs(terms, "echo")
    assert {spec.replicas for spec in streams.values()} == {3}
    assert {bucket.replicas for bucket in topology(terms, ["echo"]).buckets} == {3}
    assert streams["JOBS"].max_msgs_per_subject == 7
    assert (streams["EVENTS"].max_bytes, streams["EVENTS"].max_age_s) == (1_000, 200_000)
    assert (streams["DLQ"].max_bytes, streams["DLQ"].max_age_s) == (2_000, 50)


def test_each_kind_has_two_lanes_and_room_for_a_thousand_delayed_messages() -> None:
    consumers = {spec.name: spec for spec in topology(_settings(), ["echo", "sum"]).consumers if spec.stream == "JOBS"}
    assert {name: spec.subject for name, spec in consumers.items()} == {
        "echo": "jobs.echo",
        "echo-high": "jobs.echo.high",
        "sum": "jobs.sum",
        "sum-high": "jobs.sum.high",
    }
    assert {spec.ack_wait_s for spec in consumers.values()} == {45}
    assert min(spec.max_ack_pending for spec in consumers.values()) >= 1_000
    assert (lane_durable("echo", high=False), lane_durable("echo", high=True)) == ("echo", "echo-high")


def test_a_lane_has_room_for_what_gateways_hold_beside_what_waits_out_a_delay() -> None:
    routes = [{"subject": "planning.plan.approved", "kind": "plan"}]
    found = topology(_settings(retry={"delayed": 7_000}, routes=routes), ["plan"])
    caps = [spec.max_ack_pending for spec in found.consumers if spec.stream == "JOBS"]
    caps += [spec.max_ack_pending for spec in found.routes]
    gateways, slots, batch = 8, 64, 64
    room = 7_000 + gateways * (slots + ahead(0.25, slots, 8)) * batch
    assert len(caps) == 3
    assert min(caps) >= room


async def test_it_can_be_applied_again_and_by_gateways_with_other_kinds() -> None:
    bus = MemoryBus(MemoryServer())
    await bus.apply(topology(_settings(), ["echo", "plan"]))
    before = {name: dict(stream.config) for name, stream in bus.server.streams.items()}
    await bus.apply(topology(_settings(), ["echo", "plan"]))
    assert {name: dict(stream.config) for name, stream in bus.server.streams.items()} == before
    await bus.apply(topology(_settings(), ["sum", "plan"]))
    assert set(bus.server.stream("JOBS").config["subjects"]) >= {"jobs.echo", "jobs.sum", "jobs.sum.high"}
    assert set(bus.server.stream("JOBS").consumers) >= {"echo", "sum"}


async def test_a_routed_subject_gets_a_durable_on_whatever_stream_owns_it() -> None:
    bus = MemoryBus(MemoryServer())
    await bus.apply(Topology(streams=(StreamSpec(name="SALES", subjects=("sales.>",)),)))
    routes = [
        {"subject": "sales.order.*", "kind": "plan", "deliver": "all"},
        {"subject": "planning.plan.approved", "kind": "plan", "name": "plans"},
    ]
    await bus.apply(topology(_settings(routes=routes), ["plan"]))
    assert set(bus.server.stream("SALES").consumers) == {"jetray-sales-order-any"}
    assert set(bus.server.stream("PLANNING").consumers) == {"jetray-plans"}
    config = (await bus.consumer("SALES", "jetray-sales-order-any")).config
    assert (config["filter_subject"], config["deliver_policy"]) == ("sales.order.*", "all")
    assert (await bus.consumer("PLANNING", "jetray-plans")).config["deliver_policy"] == "new"


async def test_a_routed_subject_that_nobody_owns_is_an_error_unless_it_is_plannings() -> None:
    bus = MemoryBus(MemoryServer())
    with pytest.raises(Foreign, match=r"sales\.order"):
        await bus.apply(topology(_settings(routes=[{"subject": "sales.order", "kind": "plan"}]), ["plan"]))


async def test_a_kind_that_is_full_refuses_alone() -> None:
    bus = MemoryBus(MemoryServer())
    await bus.apply(topology(_settings(streams={"jobs_per_kind": 2}), ["echo", "sum", "plan"]))
    for _ in range(2):
        await bus.publish("jobs.echo", b"{}")
    with pytest.raises(StreamFull):
        await bus.publish("jobs.echo", b"{}")
    await bus.publish("jobs.echo.high", b"{}")
    await bus.publish("jobs.sum", b"{}")
