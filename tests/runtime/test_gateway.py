"""A gateway from end to end: plans become councils, and whatever happens every message ends once."""

from __future__ import annotations

import anyio
import pytest

from contracts.events import Completed, Failed
from tests.runtime.world import APPROVED, World, names, plan, settings

pytestmark = pytest.mark.anyio


async def test_a_plan_of_three_roles_from_end_to_end(world: World) -> None:
    jetray = await world.gateway()
    await jetray.publish(APPROVED, plan("P1", "DEV", "QA", "OPS"))
    result = await jetray.result_of("plan", "P1")
    assert [(c.role, c.job_id, c.outcome) for c in result.councils] == [
        ("DEV", "P1-DEV", "completed"),
        ("QA", "P1-QA", "completed"),
        ("OPS", "P1-OPS", "completed"),
    ]
    assert all(council.winner.proposal and council.score is not None for council in result.councils)
    log = await jetray.events("plan", "P1")
    assert names(log)[0] == "started"
    assert names(log)[-1] == "completed"
    assert set(names(log)[1:-1]) == {"progress"}
    assert log[0].origin == "PLANNING:1"
    for role in ("DEV", "QA", "OPS"):
        council = await jetray.events("deliberation", f"P1-{role}")
        assert {(event.parent, event.correlation_id) for event in council} == {("plan.P1", "P1")}
        assert [event for event, _ in await jetray.emitted(f"P1-{role}")].count("response.completed") == 3
    assert (await world.state("jetray-planning-plan-approved", stream="PLANNING")).depth == 0


async def test_the_same_plan_approved_again_starts_nothing(world: World) -> None:
    jetray = await world.gateway()
    await jetray.publish(APPROVED, plan("P1", "DEV"))
    await jetray.end_of("plan", "P1")
    before = world.kept("EVENTS")
    await jetray.publish(APPROVED, plan("P1", "DEV", timestamp="2026-11-22T06:00:00Z"))
    await world.settled(lambda: len(jetray.rooms.live) == 0)
    await anyio.sleep(100)
    assert world.kept("EVENTS") == before
    assert (await world.state("jetray-planning-plan-approved", stream="PLANNING")).depth == 0


async def test_roles_that_occur_twice_are_refused_by_name(world: World) -> None:
    jetray = await world.gateway()
    await jetray.publish(APPROVED, plan("P1", "DEV", "QA", "DEV"))
    end = await jetray.end_of("plan", "P1")
    assert isinstance(end, Failed)
    assert (end.error.reason, end.error.type) == ("user", "DuplicateKey")
    assert "'DEV'" in end.error.message
    assert [letter.job_id for letter in jetray.dead_letters()] == ["P1"]
