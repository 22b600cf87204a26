"""A gateway from end to end: plans become councils, and what is published twice happens once."""

from __future__ import annotations

import anyio
import msgspec
import pytest

from contracts import subjects
from contracts.fleet import GatewayStatus
from contracts.plan import PlanResult
from infra.bus.base import NoSuchSubject, Stored
from infra.bus.topology import Foreign, StreamSpec, Topology
from infra.pool.memory import _MemoryActor
from tests.runtime.kinds import Puppet
from tests.runtime.world import APPROVED, ONE_SLOT, World, names, plan, settings

pytestmark = pytest.mark.anyio

ROUTE = "jetray-planning-plan-approved"
LATER = "2026-11-22T06:00:00Z"


async def test_a_plan_of_three_roles_from_end_to_end(world: World) -> None:
    jetray = await world.gateway()
    await jetray.publish(APPROVED, plan("P1", "DEV", "QA", "OPS"))
    result = await jetray.result_of("plan", "P1")
    assert isinstance(result, PlanResult)
    assert [(council.role, council.job_id, council.outcome) for council in result.councils] == [
        ("DEV", "P1-DEV", "completed"),
        ("QA", "P1-QA", "completed"),
        ("OPS", "P1-OPS", "completed"),
    ]
    assert all(council.winner is not None and council.winner.proposal for council in result.councils)
    log = await jetray.events("plan", "P1")
    assert (names(log)[0], names(log)[-1], set(names(log)[1:-1])) == ("started", "completed", {"progress"})
    assert log[0].origin == "PLANNING:1"
    for role in ("DEV", "QA", "OPS"):
        council = await jetray.events("deliberation", f"P1-{role}")
        assert {(event.parent, event.correlation_id) for event in council} == {("plan.P1", "P1")}
        assert [event for event, _ in await jetray.emitted(f"P1-{role}")].count("response.completed") == 3
    assert (await world.state(ROUTE, stream="PLANNING")).depth == 0


async def test_a_plan_without_roles_gets_those_of_the_settings(world: World) -> None:
    jetray = await world.gateway(settings=settings(plan={"roles": ["WRITER"]}))
    await jetray.publish(APPROVED, plan("P1"))
    result = await jetray.result_of("plan", "P1")
    assert [council.role for council in result.councils] == ["WRITER"]


async def test_the_same_plan_approved_again_starts_nothing(world: World) -> None:
    jetray = await world.gateway()
    await jetray.publish(APPROVED, plan("P1", "DEV"))
    await jetray.end_of("plan", "P1")
    before = world.kept(subjects.EVENTS)
    await jetray.publish(APPROVED, plan("P1", "DEV", timestamp=LATER))
    await anyio.sleep(300)
    assert world.kept(subjects.EVENTS) == before
    assert jetray.dead_letters() == []
    assert (await world.state(ROUTE, stream="PLANNING")).depth == 0


async def test_a_plan_approved_again_while_it_is_under_way_starts_nothing(world: World) -> None:
    jetray = await world.gateway(settings=settings(providers={"offline": {"think_s": 10}}))
    await jetray.publish(APPROVED, plan("P1", "DEV"))
    await anyio.sleep(5)
    await jetray.publish(APPROVED, plan("P1", "DEV", timestamp=LATER))
    await anyio.sleep(5)
    assert (await world.state(ROUTE, stream="PLANNING")).depth == 1, "the second was acknowledged, the first is held"
    await jetray.result_of("plan", "P1")
    assert names(await jetray.events("plan", "P1")).count("started") == 1
    assert names(await jetray.events("deliberation", "P1-DEV")).count("started") == 1


async def test_twenty_at_once_are_one_plan(world: World) -> None:
    jetray = await world.gateway()
    async with anyio.create_task_group() as group:
        for second in range(20):
            message = plan("P1", "DEV", "QA", timestamp=f"2026-11-22T05:00:{second:02}Z")
            group.start_soon(jetray.publish, APPROVED, message)
    await jetray.end_of("plan", "P1")
    await anyio.sleep(300)
    subjects_told = [message.subject for message in world.kept(subjects.EVENTS, "orchestration.*.started.*")]
    assert sorted(subjects_told) == [
        "orchestration.deliberation.started.P1-DEV",
        "orchestration.deliberation.started.P1-QA",
        "orchestration.plan.started.P1",
    ]
    assert (await world.state(ROUTE, stream="PLANNING")).depth == 0


@pytest.mark.parametrize("gateways", [1, 3])
async def test_twenty_jobs_of_one_id_are_one_job(world: World, gateways: int) -> None:
    puppet = Puppet()
    members = [await world.gateway(puppet.kind) for _ in range(gateways)]
    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(members[0].submit, "puppet", {"id": "a"})
    await puppet.begun("a")
    await anyio.sleep(100)
    assert (await world.state("puppet")).depth == 1, "nineteen were acknowledged as duplicates"
    puppet.say("a", 7)
    assert await members[0].result_of("puppet", "a") == 7
    assert puppet.attempts == [("a", 1)]


async def test_the_same_id_with_another_input_is_refused_and_harms_nobody(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind)
    await jetray.submit("puppet", {"id": "a", "value": 1})
    await puppet.begun("a")
    log = await jetray.events("puppet", "a")
    await jetray.submit("puppet", {"id": "a", "value": 2})
    await world.settled(lambda: len(jetray.dead_letters()) == 1)
    [letter] = jetray.dead_letters()
    assert (letter.kind, letter.job_id, letter.reason) == ("puppet", "a", "id_conflict")
    assert letter.body == b'{"id":"a","value":2}'
    assert await jetray.events("puppet", "a") == log
    told = world.kept(subjects.WORKERS, "workers.intake.refused.gw-1")
    assert [(said["job_id"], said["reason"], said["dlq_sequence"]) for said in map(_body, told)] == [
        ("a", "id_conflict", letter.sequence)
    ]
    puppet.say("a", 1)
    await jetray.result_of("puppet", "a")
    await jetray.submit("puppet", {"id": "a", "value": 3})
    await world.settled(lambda: len(jetray.dead_letters()) == 2)
    assert len(await jetray.events("puppet", "a")) == len(log) + 1, "its end, and nothing after it"


async def test_the_priority_lane_goes_first(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, settings=ONE_SLOT)
    for number in range(5):
        await jetray.submit("puppet", {"id": f"low-{number}"})
    await puppet.begun("low-0")
    for number in range(2):
        await jetray.submit("puppet", {"id": f"high-{number}"}, high=True)
    for number in range(5):
        puppet.say(f"low-{number}", 0)
        puppet.say(f"high-{number}", 0)
    await jetray.end_of("puppet", "low-4")
    assert puppet.attempts.index(("high-1", 1)) < puppet.attempts.index(("low-3", 1))


async def test_what_a_gateway_tells_of_itself(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind)
    await jetray.submit("puppet", {"id": "a"})
    await jetray.submit("puppet", {"id": "b"})
    puppet.say("a", 1)
    await jetray.end_of("puppet", "a")
    await anyio.sleep(11)
    value = await world.client.value(subjects.WORKERS_KV, "gw-1")
    assert value is not None
    status = msgspec.json.decode(value, type=GatewayStatus)
    assert (status.state, [job.job_id for job in status.active]) == ("serving", ["b"])
    totals = status.kinds["puppet"]
    assert (totals.active, totals.completed, totals.failed, totals.depth) == (1, 1, 0, 1)
    assert await world.client.value(subjects.KINDS, "puppet") is not None
    assert await world.client.value(subjects.KINDS, "asyncapi") is not None
    puppet.say("b", 1)
    await jetray.end_of("puppet", "b")
    await jetray.drain("enough")
    told = [message.subject for message in world.kept(subjects.WORKERS, "workers.gateway.*.gw-1")]
    assert told == [f"workers.gateway.{word}.gw-1" for word in ("started", "draining", "stopped")]


async def test_a_kind_without_a_gateway_is_told_to_the_publisher(world: World) -> None:
    jetray = await world.gateway(settings=settings())
    with pytest.raises(NoSuchSubject, match="no stream takes this subject"):
        await jetray.client.publish("jobs.unheard-of", b"{}")


async def test_a_stream_that_is_not_ours_keeps_the_gateway_from_starting(world: World) -> None:
    await world.client.apply(Topology(streams=(StreamSpec(name="EVENTS", subjects=("somebody.else.>",)),)))
    with pytest.raises(Foreign, match="EVENTS"):
        await world.lone_gateway().gateway.run()


def _body(message: Stored) -> dict[str, object]:
    return msgspec.json.decode(message.body, type=dict[str, object])


async def test_a_gateway_without_actors_takes_no_jobs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    puppet, late = Puppet(), anyio.Event()
    really_ready = _MemoryActor.ready

    async def ready(actor: _MemoryActor) -> None:
        await late.wait()
        await really_ready(actor)

    first = await world.gateway(puppet.kind, settings=ONE_SLOT)
    monkeypatch.setattr(_MemoryActor, "ready", ready)
    second = world.lone_gateway(name="gw-2")
    world.members.append(second)
    await world._group.start(second.serve)
    for job_id in ("a", "b", "c"):
        await first.submit("puppet", {"id": job_id})
    await anyio.sleep(100)
    state = await world.state("puppet")
    assert (state.unacknowledged, state.waiting) == (1, 2), "what the second one held would wait for its actors"
    late.set()
    await world.settled(lambda: puppet.most == 2)
    for job_id in ("a", "b", "c"):
        puppet.say(job_id, 7)
        assert await first.result_of("puppet", job_id) == 7
