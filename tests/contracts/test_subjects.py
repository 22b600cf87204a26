from __future__ import annotations

from collections.abc import Callable

import pytest

from contracts import subjects
from contracts.tokens import BadToken, is_token

BUILDERS: dict[str, tuple[Callable[..., str], tuple[str, ...], str]] = {
    "job": (subjects.job, ("deliberation",), "jobs.deliberation"),
    "event": (subjects.event, ("deliberation", "completed", "P1-DEV"), "orchestration.deliberation.completed.P1-DEV"),
    "live": (subjects.live, ("deliberation", "completed"), "orchestration.deliberation.completed"),
    "job_log": (subjects.job_log, ("deliberation", "P1-DEV"), "orchestration.deliberation.*.P1-DEV"),
    "started": (subjects.started, ("deliberation", "P1-DEV"), "orchestration.deliberation.started.P1-DEV"),
    "agent": (subjects.agent, ("response", "progress", "P1-DEV"), "agent.response.progress.P1-DEV"),
    "worker": (subjects.worker, ("backpressure", "applied", "gw-1"), "workers.backpressure.applied.gw-1"),
    "dead_letter": (subjects.dead_letter, ("deliberation", "P1-DEV"), "dlq.deliberation.P1-DEV"),
    "cancel": (subjects.cancel, ("deliberation", "P1-DEV"), "control.cancel.deliberation.P1-DEV"),
    "drain": (subjects.drain, ("gw-1",), "control.drain.gw-1"),
}


@pytest.mark.parametrize("name", BUILDERS)
def test_builds_the_subject_of_the_contract(name):
    build, tokens, subject = BUILDERS[name]
    assert build(*tokens) == subject


@pytest.mark.parametrize("bad", ["", "*", ">", "a.b", "a b", "a\n", "a" * 129])
@pytest.mark.parametrize(
    ("name", "place"), [(name, place) for name, (_, tokens, _) in BUILDERS.items() for place in range(len(tokens))]
)
def test_refuses_each_part_that_is_no_token(name, place, bad):
    build, tokens, _ = BUILDERS[name]
    with pytest.raises(BadToken):
        build(*tokens[:place], bad, *tokens[place + 1 :])


def test_the_high_lane():
    assert subjects.job("deliberation", high=True) == "jobs.deliberation.high"


def test_a_notice_goes_to_the_parent():
    assert subjects.child_notice("plan.P1") == "joins.plan.P1"


@pytest.mark.parametrize("parent", ["", "plan", "plan.", ".P1", "plan.P1.x", "plan.*", "*.P1"])
def test_a_notice_needs_a_parent_with_kind_and_id(parent):
    with pytest.raises(BadToken):
        subjects.child_notice(parent)


def test_a_replay_names_a_sequence():
    assert subjects.replay(12) == "control.replay.12"
    for sequence in (0, -1):
        with pytest.raises(ValueError, match="dlq sequence is 1 or more"):
            subjects.replay(sequence)


def test_every_event_of_a_log_lies_in_its_filter_and_in_no_other():
    log = subjects.job_log("deliberation", "P1")
    pattern = log.split(".")
    for kind, job_id, inside in (
        ("deliberation", "P1", True),
        ("deliberation", "P1-DEV", False),
        ("plan", "P1", False),
    ):
        given = subjects.event(kind, "completed", job_id).split(".")
        assert all(want in ("*", have) for want, have in zip(pattern, given, strict=True)) is inside


@pytest.mark.parametrize(
    ("subject", "durable"),
    [
        ("planning.plan.approved", "jetray-planning-plan-approved"),
        ("planning.*.approved", "jetray-planning-any-approved"),
        ("planning.>", "jetray-planning-all"),
        ("orders.größe_1", "jetray-orders-gr--e_1"),
        ("orders.a/b", "jetray-orders-a-b"),
    ],
)
def test_a_route_has_a_durable_that_is_a_token(subject, durable):
    assert subjects.route_durable(subject) == durable
    assert is_token(durable)
