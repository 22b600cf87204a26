"""Limits: a job over one waits without a slot and without a word in its log, and others go on."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from msgspec import Struct

from contracts import headers as h
from contracts import subjects
from contracts.errors import ErrorInfo
from contracts.events import Cancelled, Completed, Failed, Started
from tests.runtime.kinds import Puppet, short
from tests.runtime.world import Hooks, Member, World, names, settings
from workers import job
from workers.runtime.limits import MOVES

pytestmark = pytest.mark.anyio


def limited(
    kind: str = "puppet", *, concurrency: int = 8, retry: Mapping[str, Any] | None = None, **limits: Any
) -> Any:
    return settings(
        profiles={"default": {"actors": 1, "concurrency": concurrency}},
        kinds={"settings": {kind: limits}},
        retry=retry or {},
    )


def settlings(jetray: Member, how: str) -> int:
    """How many messages it gave back, or acknowledged."""
    return sum(op == how for op, _, _ in jetray.hooks.calls)


async def begins(jetray: Member, kind: str, count: int) -> list[float]:
    """When each of `job-0`, `job-1`, … began, in seconds from the first."""
    times = []
    for number in range(count):
        [started, end] = await jetray.events(kind, f"job-{number}")
        assert isinstance(started, Started)
        assert isinstance(end, Completed)
        assert (started.attempt, started.spent.attempts, started.spent.lost) == (1, 0, 0)
        times.append(started.time.timestamp())
    return [time - min(times) for time in sorted(times)]


async def fill(jetray: Member, kind: str, count: int, **fields: Any) -> None:
    for number in range(count):
        await jetray.submit(kind, {"id": f"job-{number}", **fields})


async def ends(jetray: Member, kind: str, count: int) -> None:
    for number in range(count):
        assert isinstance(await jetray.end_of(kind, f"job-{number}"), Completed)


# --- rate ---


async def test_so_many_begin_in_a_second_and_the_rest_stays_in_the_queue(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, settings=limited(rate=10, burst=5))
    for number in range(100):
        puppet.say(f"job-{number}", number)
    await fill(jetray, "puppet", 100)
    await ends(jetray, "puppet", 100)
    times = await begins(jetray, "puppet", 100)
    for first in range(100):
        for last in range(first, 100):
            assert last - first + 1 <= 5 + 10 * (times[last] - times[first]) + 0.01
    assert times[-1] == pytest.approx(9.5, abs=0.7), "and no fewer"
    assert settlings(jetray, "nak") <= 5, "what cannot run is not pulled"


@pytest.mark.parametrize("rate", [0.1, 3, 250])
async def test_any_rate_is_kept(world: World, rate: float) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, settings=limited(rate=rate, burst=1))
    for number in range(30):
        puppet.say(f"job-{number}", number)
    await fill(jetray, "puppet", 30)
    await ends(jetray, "puppet", 30)
    times = await begins(jetray, "puppet", 30)
    assert times[-1] >= 29 / rate - 0.001
    assert times[-1] <= 1.3 * 29 / rate + 0.5


async def test_short_jobs_keep_their_rate_too(world: World) -> None:
    jetray = await world.gateway(short, settings=limited("short", rate=20, burst=10))
    await fill(jetray, "short", 100)
    await ends(jetray, "short", 100)
    times = await begins(jetray, "short", 100)
    assert times[-1] == pytest.approx(4.5, abs=0.7)
    assert settlings(jetray, "nak") <= 5


async def test_another_kind_of_the_same_profile_goes_on(world: World) -> None:
    one, other = Puppet("one"), Puppet("other")
    jetray = await world.gateway(one.kind, other.kind, settings=limited("one", rate=0.01, burst=1, concurrency=1))
    for number in range(20):
        one.say(f"job-{number}", number)
        other.say(f"job-{number}", number)
    await fill(jetray, "one", 5)
    await fill(jetray, "other", 20)
    for number in range(20):
        assert isinstance(await jetray.end_of("other", f"job-{number}", within_s=5), Completed)
    await ends(jetray, "one", 5)


async def test_a_message_that_does_not_decode_costs_no_token(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, settings=limited(rate=0.01, burst=1))
    await jetray.submit("puppet", b"nonsense")
    assert isinstance(await jetray.end_of("puppet", "JOBS-1", within_s=5), Failed)
    puppet.say("job-0", 0)
    await fill(jetray, "puppet", 1)
    assert isinstance(await jetray.end_of("puppet", "job-0", within_s=5), Completed)


async def test_while_a_message_is_being_read_nobody_asks_again_and_again_for_its_token(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, settings=limited(rate=1, burst=1))
    limit, looks = jetray.rooms.limits._of["puppet"], 0
    allowance = limit.allowance

    def count(now: float) -> int | None:
        nonlocal looks
        looks += 1
        assert looks < 1_000
        return allowance(now)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limit, "allowance", count)
        visit = jetray.rooms.limits.visit("puppet")
        assert visit is not None
        jetray.gateway._notify_credits()
        await anyio.sleep(10)
        visit.leave(ran=False)
        assert looks > 10, "it is found out soon that it has taken none"
    puppet.say("job-0", 0)
    await fill(jetray, "puppet", 1)
    assert isinstance(await jetray.end_of("puppet", "job-0", within_s=5), Completed)


async def test_what_has_ended_already_costs_no_token(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, settings=limited(rate=0.01, burst=3))
    puppet.say("job-0", 0)
    puppet.say("job-1", 1)
    for _ in range(4):
        await fill(jetray, "puppet", 1)
        await jetray.end_of("puppet", "job-0")
        await world.settled(lambda: world.kept(subjects.JOBS) == [], within_s=5)
    await jetray.submit("puppet", {"id": "job-1"})
    assert isinstance(await jetray.end_of("puppet", "job-1", within_s=5), Completed)


# --- running jobs of a key ---


async def test_so_many_of_a_key_run_at_once_and_other_keys_go_on(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, settings=limited(key="value", max_running_per_key=2))
    await fill(jetray, "puppet", 6, value=7)
    await puppet.begun("job-0")
    await puppet.begun("job-1")
    for number in range(5):
        puppet.say(f"free-{number}", number)
        await jetray.submit("puppet", {"id": f"free-{number}", "value": 8 + number})
        assert isinstance(await jetray.end_of("puppet", f"free-{number}", within_s=5), Completed)
    await anyio.sleep(100)
    assert [job_id for job_id, _ in puppet.attempts if job_id.startswith("job")] == ["job-0", "job-1"]
    for number in range(2, 6):
        assert await jetray.events("puppet", f"job-{number}") == [], "nobody knows of them"
    assert (await world.state("puppet")).unacknowledged == 6
    for number in range(6):
        puppet.say(f"job-{number}", number)
    await ends(jetray, "puppet", 6)
    assert await begins(jetray, "puppet", 6)


async def test_who_waits_for_a_key_spins_less_the_longer_jobs_take(world: World) -> None:
    puppet = Puppet()

    async def work(ctx: Any) -> int:
        await anyio.sleep(10)
        return 1

    jetray = await world.gateway(puppet.kind, settings=limited(key="value", max_running_per_key=1))
    for number in range(40):
        puppet.say(f"job-{number}", work)
    await fill(jetray, "puppet", 40, value=7)
    await ends(jetray, "puppet", 40)
    times = await begins(jetray, "puppet", 40)
    assert all(later - earlier >= 9.99 for earlier, later in itertools.pairwise(times))
    assert times[-1] <= 39 * 10 * 1.6, "nor does the key lie idle for long"
    assert settlings(jetray, "nak") <= 40 * 30


class Inner(Struct, rename={"tenant": "tenantId"}):
    tenant: str | None = None


class Outer(Struct):
    id: str
    inner: Inner | None = None
    labels: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("key", "fields", "shares"),
    [
        ("inner.tenantId", {"inner": {"tenantId": "t"}}, True),
        ("inner.tenantId", {"inner": {}}, False),
        ("inner.tenantId", {}, False),
        ("labels.team", {"labels": {"team": "t"}}, True),
        ("labels.team.name", {"labels": {"team": {"name": ["t"]}}}, True),
        ("labels.team", {}, False),
        ("labels.team.name", {"labels": {"team": 3}}, False),
    ],
)
async def test_a_key_may_lie_deep_and_what_has_none_shares_with_nobody(
    world: World, key: str, fields: dict[str, Any], shares: bool
) -> None:
    release, began = anyio.Event(), []

    @job("outer", id_field="id")
    async def outer(given: Outer) -> None:
        began.append(given.id)
        await release.wait()

    jetray = await world.gateway(outer, settings=limited("outer", key=key, max_running_per_key=1))
    for name in "abc":
        await jetray.submit("outer", {"id": name, **fields})
    await anyio.sleep(30)
    assert len(began) == (1 if shares else 3)
    release.set()
    for name in "abc":
        assert isinstance(await jetray.end_of("outer", name), Completed)


async def test_a_failed_attempt_gives_its_key_away_until_it_is_tried_again(world: World) -> None:
    puppet = Puppet()
    terms = limited(key="value", max_running_per_key=1, retry_base_s=100, retry_cap_s=100)
    jetray = await world.gateway(puppet.kind, settings=terms)
    puppet.say("job-0", ValueError("not yet"))
    puppet.say("job-1", 1)
    await fill(jetray, "puppet", 2, value=7)
    assert isinstance(await jetray.end_of("puppet", "job-1", within_s=20), Completed)
    puppet.say("job-0", 0)
    assert isinstance(await jetray.end_of("puppet", "job-0"), Completed)


async def test_a_job_that_waits_can_be_cancelled(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, settings=limited(key="value", max_running_per_key=1))
    await fill(jetray, "puppet", 2, value=7)
    await puppet.begun("job-0")
    await jetray.publish("control.cancel.puppet.job-1", b"")
    assert isinstance(await jetray.end_of("puppet", "job-1", within_s=5), Cancelled)
    puppet.say("job-0", 0)
    await ends(jetray, "puppet", 1)
    await world.settled(lambda: world.kept(subjects.JOBS) == [])


async def test_another_delivery_of_what_runs_is_handed_over_and_not_turned_away(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, settings=limited(key="value", max_running_per_key=1))
    await fill(jetray, "puppet", 1, value=7)
    await puppet.begun("job-0")
    [message] = world.kept(subjects.JOBS)
    [worker] = jetray.rooms.live
    await world.client.nak(worker.delivery)
    await anyio.sleep(1)
    assert (worker.delivery.sequence, worker.delivery.number) == (message.sequence, 2)
    puppet.say("job-0", 0)
    await ends(jetray, "puppet", 1)
    assert puppet.attempts == [("job-0", 1)]


async def test_with_a_gateway_that_dies_its_keys_are_free(world: World) -> None:
    puppet = Puppet()
    first = await world.gateway(puppet.kind, settings=limited(key="value", max_running_per_key=1))
    await fill(first, "puppet", 3, value=7)
    await puppet.begun("job-0")
    await first.crash()
    second = await world.gateway()
    for number in range(3):
        puppet.say(f"job-{number}", number)
    for number in range(3):
        assert isinstance(await second.end_of("puppet", f"job-{number}"), Completed)


def asking(job_id: str, error: ErrorInfo | None = None) -> Any:
    """What was read of a delivery, as far as limits look at it."""
    return SimpleNamespace(input={"value": 7}, error=error, ticket=SimpleNamespace(kind="puppet", job_id=job_id))


async def test_where_there_is_no_token_the_key_stays_free_and_what_needs_none_goes_on(world: World) -> None:
    terms = limited(key="value", max_running_per_key=1, rate=0.001, burst=1)
    jetray = await world.gateway(Puppet().kind, settings=terms)
    first, second, third = (jetray.rooms.limits.visit("puppet") for _ in range(3))
    assert first is not None
    assert second is not None
    assert third is not None
    assert first.admit(asking("a"), runs=False)
    assert third.admit(asking("a"), runs=True), "another delivery of what runs"
    first.leave(ran=True)
    assert not second.admit(asking("b"), runs=False)
    [limit] = jetray.rooms.limits._of.values()
    assert limit._keys is not None
    assert not limit._keys._running
    undecodable = jetray.rooms.limits.visit("puppet")
    assert undecodable is not None
    assert undecodable.admit(asking("c", ErrorInfo(reason="decode", type="Undecodable", message="")), runs=False)


# --- at the tail ---


async def crowd(world: World, hooks: Hooks | None = None) -> tuple[Puppet, Member, dict[str, str]]:
    """A hundred jobs of one key, and room for four that wait; also where each job's message stood."""
    puppet, origins = Puppet(), {}
    terms = limited(key="value", max_running_per_key=1, retry={"delayed": 8})
    jetray = await world.gateway(puppet.kind, hooks=hooks, settings=terms)
    for number in range(100):
        stored = await world.client.publish("jobs.puppet", b'{"id":"job-%d","value":7}' % number)
        origins[f"job-{number}"] = f"JOBS:{stored.sequence}"
    await puppet.begun("job-0")
    return puppet, jetray, origins


async def test_a_queue_of_one_key_lets_others_by(world: World) -> None:
    puppet, jetray, _ = await crowd(world)
    for number in range(10):
        puppet.say(f"free-{number}", number)
        await jetray.submit("puppet", {"id": f"free-{number}", "value": 100 + number})
        assert isinstance(await jetray.end_of("puppet", f"free-{number}", within_s=10), Completed)
    before = len(jetray.hooks.calls)
    await anyio.sleep(3)
    assert sum(op == "ack" for op, _, _ in jetray.hooks.calls[before:]) <= 3 * MOVES + MOVES, "it turns so fast"
    moved = [message for message in world.kept(subjects.JOBS) if h.ORIGIN in message.headers]
    assert len(moved) >= 80
    assert {message.headers[h.JOB_ID] for message in moved} <= {f"job-{number}" for number in range(100)}
    for number in range(100):
        puppet.say(f"job-{number}", number)
    await ends(jetray, "puppet", 100)
    assert await begins(jetray, "puppet", 100)
    assert puppet.most == 2, "one of the key, and one that is free"


async def test_a_moved_job_keeps_its_id_and_its_origin(world: World) -> None:
    puppet, jetray, first = await crowd(world)
    await anyio.sleep(2)
    await jetray.submit("puppet", {"id": "job-50", "value": 7})
    for number in range(100):
        puppet.say(f"job-{number}", number)
    await ends(jetray, "puppet", 100)
    origins = {job_id: (await jetray.events("puppet", job_id))[0].origin for job_id in first}
    del origins["job-50"], first["job-50"]
    assert origins == first
    assert jetray.dead_letters() == []
    assert len(puppet.attempts) == 100
    await world.settled(lambda: world.kept(subjects.JOBS) == [])


async def test_a_move_whose_acknowledgement_is_lost_leaves_one_job(world: World) -> None:
    hooks = Hooks()
    puppet, jetray, _ = await crowd(world, hooks)
    hooks.lose_requests("ack", "", times=40)
    await anyio.sleep(3)
    for number in range(100):
        puppet.say(f"job-{number}", number)
    await ends(jetray, "puppet", 100)
    await anyio.sleep(300)
    for number in range(100):
        assert names(await jetray.events("puppet", f"job-{number}"))[-1] == "completed"


async def test_where_the_tail_has_no_room_they_wait_where_they_are(world: World) -> None:
    puppet, jetray, _ = await crowd(world)
    kept = world.server.stream(subjects.JOBS)
    kept.update({"max_msgs_per_subject": len(world.kept(subjects.JOBS, "jobs.puppet"))})
    await anyio.sleep(60)
    for number in range(100):
        puppet.say(f"job-{number}", number)
    await ends(jetray, "puppet", 100)


# --- what it holds ---


async def test_what_drains_forgets_nothing(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, settings=limited(key="value", max_running_per_key=1, rate=5))
    await fill(jetray, "puppet", 10, value=7)
    await puppet.begun("job-0")
    puppet.say("job-0", 0)
    await jetray.drain()
    [limit] = jetray.rooms.limits._of.values()
    assert limit.arriving == 0
    assert limit._keys is not None
    assert not limit._keys._running
    second = await world.gateway()
    for number in range(10):
        puppet.say(f"job-{number}", number)
    for number in range(10):
        assert isinstance(await second.end_of("puppet", f"job-{number}"), Completed)


async def test_kinds_without_limits_are_asked_nothing(world: World) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, settings=settings(kinds={"settings": {"puppet": {"max_lost": 3}}}))
    limits = jetray.rooms.limits
    assert limits.visit("puppet") is None
    assert limits.allowance("puppet") is None
