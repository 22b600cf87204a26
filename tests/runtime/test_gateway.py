"""A gateway from end to end: plans become councils, and what is published twice happens once."""

from __future__ import annotations

import anyio
import msgspec
import pytest

from contracts import subjects
from contracts.events import Completed, Failed, Retrying, Spent, Started
from contracts.fleet import GatewayStatus
from contracts.plan import PlanResult
from infra.bus.base import NoAnswer, NoSuchSubject, Stored
from infra.bus.topology import Foreign, StreamSpec, Topology
from tests.runtime.kinds import Puppet, Task, acting
from tests.runtime.world import APPROVED, ONE_SLOT, Hooks, World, names, plan, serving, settings
from workers import JobContext, Retry

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


# --- drain


async def test_draining_lets_finish_what_can_and_gives_back_the_rest(world: World) -> None:
    quick, slow = Puppet("quick"), Puppet("slow")
    jetray = await world.gateway(quick.kind, slow.kind, settings=settings(gateway={"grace_s": 30}))
    await jetray.submit("quick", {"id": "finishes"})
    await jetray.submit("slow", {"id": "does-not"})
    await quick.begun("finishes")
    await slow.begun("does-not")
    await jetray.submit("slow", {"id": "waits-for-a-slot"}, high=True)
    await world.settled(lambda: len(jetray.rooms.live) == 3)
    began = anyio.current_time()
    jetray.gateway.drain("the test says so")
    second = await world.gateway()
    await jetray.submit("quick", {"id": "comes-late"})
    await slow.begun("waits-for-a-slot", within_s=2)
    await quick.begun("comes-late", within_s=2)
    assert names(await jetray.events("slow", "does-not")) == ["started"], "running jobs get the grace period"
    quick.say("finishes", 1)
    quick.say("comes-late", 1)
    slow.say("waits-for-a-slot", 1)
    await jetray.over.wait()
    assert anyio.current_time() - began == pytest.approx(30, abs=2)
    for kind, job_id in (("quick", "comes-late"), ("slow", "waits-for-a-slot")):
        assert {event.gateway for event in await jetray.events(kind, job_id)} == {"gw-2"}
    assert names(await jetray.events("quick", "finishes")) == ["started", "completed"]
    await slow.begun("does-not", 2, within_s=2)
    [_, again, start] = await jetray.events("slow", "does-not")
    assert isinstance(again, Retrying)
    assert isinstance(start, Started)
    assert (again.gateway, again.error.reason, again.error.type, again.delay_ms) == ("gw-1", "lost", "Drained", 0)
    assert (again.spent, start.spent, start.gateway) == (Spent(), Spent(), "gw-2")
    assert slow.stopped.keys() == {("does-not", 1)}
    slow.say("does-not", 1)
    assert isinstance(await second.end_of("slow", "does-not"), Completed)


async def test_an_idle_gateway_drains_at_once(world: World) -> None:
    jetray = await world.gateway()
    began = anyio.current_time()
    await jetray.drain()
    assert anyio.current_time() - began < 1


async def test_a_batch_that_is_drained_goes_on_elsewhere_and_its_children_with_it(world: World) -> None:
    jetray = await world.gateway(settings=settings(gateway={"grace_s": 5}, providers={"offline": {"think_s": 20}}))
    await jetray.publish(APPROVED, plan("P1", "DEV", "QA"))
    await anyio.sleep(10)
    await jetray.drain()
    log = await jetray.events("plan", "P1")
    assert isinstance(log[-1], Retrying)
    assert (log[-1].spent.attempts, log[-1].spent.lost) == (0, 0)
    second = await world.gateway()
    result = await second.result_of("plan", "P1")
    assert {council.outcome for council in result.councils} == {"completed"}
    for role in ("DEV", "QA"):
        starts = [e for e in await second.events("deliberation", f"P1-{role}") if isinstance(e, Started)]
        assert [(e.attempt, e.spent.lost) for e in starts] == [(1, 0), (2, 0)]


# --- credit


async def test_two_kinds_that_share_a_profile_share_its_slots(world: World) -> None:
    running = most_running = most_in_hand = 0

    async def work(ctx: JobContext, task: Task) -> None:
        nonlocal running, most_running
        running += 1
        most_running = max(most_running, running)
        await anyio.sleep(1)
        running -= 1

    kinds = [acting("one", work), acting("other", work)]
    jetray = await world.gateway(*kinds, settings=settings(profiles={"default": {"actors": 2, "concurrency": 2}}))
    for number in range(20):
        for kind in kinds:
            await jetray.submit(kind.name, {"id": f"{number}"}, high=number % 5 == 0)
    lanes = [f"{kind.name}{lane}" for kind in kinds for lane in ("", "-high")]
    with anyio.fail_after(600):
        while world.kept(subjects.JOBS):
            most_in_hand = max(most_in_hand, sum([(await world.state(lane)).unacknowledged for lane in lanes]))
            await anyio.sleep(0.1)
    assert most_running == 4, "every slot is used, and no other"
    assert most_in_hand <= 4 * len(lanes), "each lane asks for no more than a profile's slots"


async def test_a_kind_alone_has_no_more_in_hand_than_slots(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind)
    for number in range(20):
        await jetray.submit("puppet", {"id": f"{number}"})
    for number in range(20):
        await puppet.begun(f"{number}")
        state = await world.state("puppet")
        assert state.unacknowledged <= 2
        puppet.say(f"{number}", 1)
    await jetray.end_of("puppet", "19")
    assert puppet.most == 2


# --- streams that are full


async def test_while_events_is_full_nothing_is_acknowledged_and_then_it_goes_on(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind)
    await jetray.submit("puppet", {"id": "a"})
    await puppet.begun("a")
    events = world.server.stream(subjects.EVENTS)
    room, events.config["max_bytes"] = events.config["max_bytes"], 1
    await jetray.submit("puppet", {"id": "b"})
    puppet.say("a", 1)
    puppet.say("b", 2)
    await anyio.sleep(300)
    state = await world.state("puppet")
    assert (state.unacknowledged, state.redelivered) == (2, 0), "held, and their leases renewed"
    assert puppet.attempts == [("a", 1)], "no user code runs before its started is durable"
    events.config["max_bytes"] = room
    assert await jetray.result_of("puppet", "a") == 1
    assert await jetray.result_of("puppet", "b") == 2
    assert puppet.attempts == [("a", 1), ("b", 1)]


async def test_while_dlq_is_full_nothing_is_acknowledged_and_then_it_goes_on(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind)
    letters = world.server.stream(subjects.DLQ)
    room, letters.config["max_bytes"] = letters.config["max_bytes"], 1
    undecodable = await jetray.submit("puppet", b"nonsense")
    await anyio.sleep(300)
    assert (await world.state("puppet")).unacknowledged == 1
    assert await jetray.events("puppet", undecodable) == [], "DLQ first, then failed"
    letters.config["max_bytes"] = room
    end = await jetray.end_of("puppet", undecodable)
    assert isinstance(end, Failed)
    assert [letter.sequence for letter in jetray.dead_letters()] == [end.dlq_sequence]


# --- answers that are lost, and crashes at every step


async def test_any_one_lost_answer_or_request_changes_nothing(anyio_backend: object) -> None:
    for way in ("on_before", "on_after"):
        for step in range(1_000):
            hooks = _LoseOne(way, step)
            async with serving() as world:
                puppet = Puppet()
                puppet.say("a", 1)
                puppet.say("b", Retry("again"))
                terms = settings(retry={"max_attempts": 2})
                jetray = await world.gateway(puppet.kind, hooks=hooks, settings=terms)
                hooks.armed = True
                await jetray.submit("puppet", {"id": "a"})
                await jetray.submit("puppet", {"id": "b"})
                assert await jetray.result_of("puppet", "a") == 1
                assert isinstance(await jetray.end_of("puppet", "b"), Failed)
                await world.settled(lambda: world.kept(subjects.JOBS) == [])
                hooks.armed = False
                assert names(await jetray.events("puppet", "a")) == ["started", "completed"]
                assert names(await jetray.events("puppet", "b")) == ["started", "retrying", "started", "failed"]
                assert sorted(puppet.attempts) == [("a", 1), ("b", 1), ("b", 2)]
                assert len(jetray.dead_letters()) == 1
            if not hooks.lost:
                assert step > 5, "there were steps at which something was lost"
                break


class _LoseOne(Hooks):
    """Loses the answer, or the request, of one call of those that a job's way is made of."""

    def __init__(self, way: str, step: int) -> None:
        super().__init__()
        self.armed = False
        self.lost = False
        self._left = step
        setattr(self, way, self._lose)

    async def _lose(self, op: str, subject: str) -> None:
        if self.armed and not self.lost and not subject.startswith(("$KV", "workers.")) and op != "consumer":
            self._left -= 1
            if self._left < 0:
                self.lost = True
                raise NoAnswer(f"the test lost {op} {subject}")


def _body(message: Stored) -> dict[str, object]:
    return msgspec.json.decode(message.body, type=dict[str, object])
