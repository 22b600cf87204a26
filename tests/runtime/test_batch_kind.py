"""Kind `batch` on a gateway: parallelism, policies, counts, and takeovers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from contracts import subjects
from contracts.batch import BatchResult
from contracts.events import Cancelled, Failed, Progress, Started
from infra.pool.base import Reservation
from tests.runtime.kinds import Group, Puppet, Task
from tests.runtime.world import Member, World, names, settings
from workers import Child, ChildEnd, Fail, JobContext, batch, job
from workers.kinds.registry import Kind, load
from workers.runtime.train import Train

pytestmark = pytest.mark.anyio

MODULE = "tests.kinds.workflows"
ROOMY = settings(profiles={"default": {"actors": 2, "concurrency": 50}})
ONE_ACTOR = settings(profiles={"default": {"actors": 1, "concurrency": 1}})


@pytest.fixture
def puppet() -> Puppet:
    return Puppet()


def kinds(puppet: Puppet) -> list[Kind]:
    return [*load([]).values(), puppet.kind]


async def submit(jetray: Member, *variants: str, **fields: Any) -> None:
    listed = [{"name": name, "parameters": {"id": f"B7-{name}"}} for name in variants]
    await jetray.submit("batch", {"batch_id": "B7", "kind": "puppet", "variants": listed, **fields})


async def result_of(jetray: Member) -> BatchResult:
    result = await jetray.result_of("batch", "B7")
    assert isinstance(result, BatchResult)
    return result


async def test_variants_of_a_workflow_run_in_actors_and_the_best_is_told(world: World) -> None:
    terms = settings(kinds={"modules": [MODULE]}, profiles={"default": {"actors": 2}})
    jetray = await world.gateway(*load([MODULE]).values(), settings=terms)
    matrix = {"x": [1, 2], "y": [10, 30]}
    await jetray.submit("batch", {"batch_id": "B7", "workflow": "tests.sum", "matrix": matrix})
    result = await result_of(jetray)
    assert result.best is not None
    assert (result.best.name, result.best.score) == ("x=2,y=30", 32.0)
    assert [row.score for row in result.comparison] == [32.0, 31.0, 12.0, 11.0]
    logs = [await jetray.events("variant", row.job_id) for row in result.comparison]
    assert [names(log) for log in logs] == [["started", "completed"]] * 4
    for start in (log[0] for log in logs):
        assert isinstance(start, Started)
        assert start.parent == "batch.B7"
        assert start.actor


async def test_variants_of_a_plain_workflow_share_calls_and_others_do_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared: Counter[str] = Counter()
    run = Train.run

    async def counted(train: Train, reservation: Reservation) -> None:
        shared.update(worker.received.ticket.parent or "" for worker in train._aboard)
        await run(train, reservation)

    monkeypatch.setattr(Train, "run", counted)
    terms = settings(kinds={"modules": [MODULE]}, profiles={"default": {"actors": 1}})
    jetray = await world.gateway(*load([MODULE]).values(), settings=terms)
    for batch_id, workflow, parameters in (("plain", "tests.sum", {"x": 1}), ("told", "tests.told", {"score": 1})):
        variants = [{"name": f"v{number}", "parameters": parameters} for number in range(50)]
        await jetray.submit("batch", {"batch_id": batch_id, "workflow": workflow, "variants": variants})
        result = await jetray.result_of("batch", batch_id)
        assert result.counts["completed"] == 50
    assert shared["batch.plain"] > 25
    assert shared["batch.told"] == 0
    assert "progress" in names(await jetray.events("variant", "told-v1"))


async def test_no_more_are_under_way_than_it_asks_for(world: World, puppet: Puppet) -> None:
    jetray = await world.gateway(*kinds(puppet), settings=ROOMY)
    variants = [f"v{number}" for number in range(20)]
    await submit(jetray, *variants, parallelism=3)
    for number, name in enumerate(variants):
        await puppet.begun(f"B7-{name}")
        await anyio.sleep(1)
        assert len(world.kept(subjects.JOBS, "jobs.puppet")) == min(3, 20 - number)
        puppet.say(f"B7-{name}", number)
    assert (await result_of(jetray)).counts["completed"] == 20
    assert puppet.most == 3


async def test_progress_counts_all_that_has_become_of_them_and_ends_at_the_whole(world: World, puppet: Puppet) -> None:
    jetray = await world.gateway(*kinds(puppet), settings=ROOMY)
    await submit(jetray, "a", "b", "c", "d", parallelism=2)
    for name, word in (("a", 1), ("b", Fail("no")), ("c", 1), ("d", 1)):
        await puppet.begun(f"B7-{name}")
        await anyio.sleep(10)
        puppet.say(f"B7-{name}", word)
    await result_of(jetray)
    reports = [event for event in await jetray.events("batch", "B7") if isinstance(event, Progress)]
    assert [(report.done, report.total) for report in reports] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert reports[1].counts == {
        "completed": 1,
        "failed": 1,
        "cancelled": 0,
        "refused": 0,
        "open": 2,
        "in_progress": 1,
    }
    assert [report.eta_ms for report in reports][-1] == 0
    for report in reports[:-1]:
        assert report.elapsed_ms
        assert report.per_second
        assert report.done
        assert report.per_second == pytest.approx(report.done / report.elapsed_ms * 1000, abs=0.001)
        assert report.eta_ms == pytest.approx((4 - report.done) / report.per_second * 1000, rel=0.02)


async def test_fail_fast_cancels_the_rest_queued_and_running(world: World, puppet: Puppet) -> None:
    jetray = await world.gateway(*kinds(puppet))
    puppet.say("B7-b", Fail("no"))
    await submit(jetray, *"abcdef", policy="fail_fast")
    end = await jetray.end_of("batch", "B7")
    assert isinstance(end, Failed)
    assert (end.error.reason, end.counts and end.counts["failed"]) == ("dependency", 1)
    assert end.error.message == "b failed (user: no); 1 failed, 5 cancelled; policy fail_fast needs 6 of 6"
    assert end.counts is not None
    assert end.counts["cancelled_running"] + end.counts["cancelled_queued"] == 5
    stages = {}
    for name in "acdef":
        child = (await jetray.events("puppet", f"B7-{name}"))[-1]
        assert isinstance(child, Cancelled)
        assert "fail_fast" in child.reason
        stages[name] = child.stage
    assert stages["a"] == "running"
    assert stages["f"] == "queued"
    reports = [event for event in await jetray.events("batch", "B7") if isinstance(event, Progress)]
    assert [report.counts["in_progress"] for report in reports if report.counts is not None][1:] == [5, 0]


async def test_a_result_too_large_for_its_event_is_compared_too(world: World, puppet: Puppet) -> None:
    jetray = await world.gateway(*kinds(puppet), settings=ROOMY)
    puppet.say("B7-a", {"score": 9, "output": "x" * 300_000})
    puppet.say("B7-b", {"score": 1})
    await submit(jetray, "a", "b")
    result = await result_of(jetray)
    assert [(row.name, row.score) for row in result.comparison] == [("a", 9.0), ("b", 1.0)]


async def test_a_kind_that_cannot_tell_a_jobs_company_runs_it_alone(world: World) -> None:
    @job("odd", id_field="id")
    class Odd:
        def company(self, task: Task) -> str | None:
            raise ValueError("it does not know")

        def run(self, ctx: JobContext, task: Task) -> int:
            return task.value

    jetray = await world.gateway(Odd)  # type: ignore[arg-type]
    await jetray.submit("odd", Task(id="o", value=7))
    assert await jetray.result_of("odd", "o") == 7


async def test_a_threshold_that_is_reached_settles_it_and_one_out_of_reach_does_too(
    world: World, puppet: Puppet
) -> None:
    jetray = await world.gateway(*kinds(puppet), settings=ROOMY)
    for name in ("a", "b"):
        puppet.say(f"B7-{name}", 1)
    await submit(jetray, *"abcd", policy="threshold", threshold=0.5)
    assert (await result_of(jetray)).counts == {
        "completed": 2,
        "failed": 0,
        "cancelled": 2,
        "refused": 0,
        "total": 4,
    }
    for name in ("a", "b", "c"):
        puppet.say(f"B8-{name}", Fail("no"))
    listed = [{"name": name, "parameters": {"id": f"B8-{name}"}} for name in "abcd"]
    asked = {"batch_id": "B8", "kind": "puppet", "variants": listed, "policy": "threshold", "threshold": 0.5}
    await jetray.submit("batch", asked)
    assert isinstance(await jetray.end_of("batch", "B8"), Failed)
    assert isinstance((await jetray.events("puppet", "B8-d"))[-1], Cancelled)


async def test_settled_it_stays_so_for_whoever_takes_it_over(world: World, puppet: Puppet) -> None:
    first = await world.gateway(*kinds(puppet), settings=ONE_ACTOR)
    puppet.say("B7-a", Fail("no"))
    await submit(first, *"abcdef", policy="fail_fast")
    await puppet.begun("B7-b")
    await first.crash()
    second = await world.gateway(settings=ONE_ACTOR)
    end = await second.end_of("batch", "B7")
    assert isinstance(end, Failed)
    assert end.error.message.startswith("a failed (user: no); 1 failed, 5 cancelled")
    ends = [(await second.events("puppet", f"B7-{name}"))[-1] for name in "bcdef"]
    assert all(isinstance(child, Cancelled) and child.time <= end.time for child in ends)


async def test_taken_over_it_publishes_no_more_than_may_be_under_way(world: World, puppet: Puppet) -> None:
    first = await world.gateway(*kinds(puppet), settings=ROOMY)
    await submit(first, *"abcdef", parallelism=2)
    await puppet.begun("B7-a")
    puppet.say("B7-b", 1)
    await puppet.begun("B7-c")
    await first.crash()
    second = await world.gateway(settings=ROOMY)
    await puppet.begun("B7-a", 2)
    await anyio.sleep(60)
    assert len(world.kept(subjects.JOBS, "jobs.puppet")) == 2
    for name in "acdef":
        puppet.say(f"B7-{name}", 1)
    assert (await result_of(second)).counts["completed"] == 6
    assert puppet.most == 2


async def test_taken_over_that_holds_for_children_of_several_kinds(world: World) -> None:
    puppets = {"puppet": Puppet(), "other": Puppet("other")}

    class Mixed:
        def expand(self, group: Group) -> Sequence[Child]:
            return [Child(key=key, kind=kind, input=Task(id=f"g-{key}")) for key, kind in SIDES.items()]

        def parallelism(self, group: Group) -> int:
            return 2

        def reduce(self, group: Group, ends: Sequence[ChildEnd]) -> int:
            return len(ends)

    mixed = batch("mixed", id_field="id")(Mixed)
    first = await world.gateway(*(it.kind for it in puppets.values()), mixed, settings=ROOMY)
    await first.submit("mixed", Group(id="g"))
    await puppets["puppet"].begun("g-a")
    await puppets["other"].begun("g-b")
    await first.crash()
    second = await world.gateway(settings=ROOMY)
    await anyio.sleep(60)
    assert [len(world.kept(subjects.JOBS, f"jobs.{kind}")) for kind in puppets] == [1, 1]
    for key, kind in SIDES.items():
        puppets[kind].say(f"g-{key}", 1)
    assert await second.result_of("mixed", "g") == 4


SIDES = {"a": "puppet", "b": "other", "c": "puppet", "d": "other"}


async def test_taken_over_when_all_have_ended_its_last_report_is_whole_all_the_same(
    world: World, puppet: Puppet
) -> None:
    first = await world.gateway(*kinds(puppet), settings=ROOMY)
    helper = await world.gateway(puppet.kind, settings=ROOMY)
    await submit(first, "a", "b")
    await puppet.begun("B7-a")
    await puppet.begun("B7-b")
    await first.crash()
    for name in ("a", "b"):
        puppet.say(f"B7-{name}", 1)
    await helper.end_of("puppet", "B7-a")
    await helper.end_of("puppet", "B7-b")
    second = await world.gateway(*kinds(puppet), settings=ROOMY)
    await result_of(second)
    reports = [event for event in await second.events("batch", "B7") if isinstance(event, Progress)]
    assert [(report.done, report.total) for report in reports][-1] == (2, 2)


async def test_a_cancels_progress_counts_from_its_own_beginning(world: World, puppet: Puppet) -> None:
    jetray = await world.gateway(*kinds(puppet), settings=ROOMY)
    for name in "abc":
        puppet.say(f"B7-{name}", 1)
    await submit(jetray, *"abcdef")
    await puppet.begun("B7-f")
    await anyio.sleep(60)
    await jetray.publish("control.cancel.batch.B7", {"reason": "enough", "requested_by": "ops"})
    await jetray.end_of("batch", "B7")
    first = next(
        event
        for event in await jetray.events("batch", "B7")
        if isinstance(event, Progress) and event.cancelling and event.done
    )
    assert (first.done, first.per_second, first.eta_ms) == (3, 0.0, None)


async def test_a_parallelism_that_cannot_be_leaves_no_child_behind(world: World, puppet: Puppet) -> None:
    class Idle:
        def expand(self, group: Group) -> Sequence[Child]:
            return [Child(key="a", kind="puppet", input=Task(id="g-a"))]

        def parallelism(self, group: Group) -> int:
            return 0

        def reduce(self, group: Group, ends: Sequence[ChildEnd]) -> int:
            return len(ends)

    jetray = await world.gateway(puppet.kind, batch("idle", id_field="id")(Idle))
    await jetray.submit("idle", Group(id="g"))
    end = await jetray.end_of("idle", "g")
    assert isinstance(end, Failed)
    assert (end.error.reason, end.error.message) == ("user", "parallelism must be 1 or more, not 0")
    await anyio.sleep(60)
    assert await jetray.events("puppet", "g-a") == []


async def test_an_unknown_workflow_is_one_clear_failure(world: World, puppet: Puppet) -> None:
    jetray = await world.gateway(*kinds(puppet))
    await jetray.submit("batch", {"batch_id": "B7", "workflow": "os.system", "variants": [{"name": "a"}]})
    end = await jetray.end_of("batch", "B7")
    assert isinstance(end, Failed)
    assert (end.error.reason, end.error.type) == ("config", "Fail")
    assert "no workflow os.system is registered" in end.error.message
    assert world.kept(subjects.JOBS) == []
