"""Topology: the server's own words, what differs, whose subjects are whose."""

from __future__ import annotations

from itertools import product

import pytest

from infra.bus.topology import (
    BucketSpec,
    ConsumerSpec,
    Foreign,
    Republish,
    RouteSpec,
    StreamSpec,
    Topology,
    differences,
    subject_matches,
    subjects_overlap,
    united,
)

JOBS = StreamSpec(
    name="JOBS", subjects=("jobs.echo", "jobs.echo.high"), retention="workqueue", adopts=("jobs.*", "jobs.*.high")
)

# --- the server's words


def test_durations_become_nanoseconds() -> None:
    config = StreamSpec(name="S", subjects=("s",), max_age_s=0.5, duplicate_window_s=0.25).config()
    assert (config["max_age"], config["duplicate_window"]) == (500_000_000, 250_000_000)
    assert ConsumerSpec(stream="S", name="c", subject="s", ack_wait_s=1.5).config()["ack_wait"] == 1_500_000_000


def test_the_duplicate_window_is_no_longer_than_the_age() -> None:
    # The server refuses a longer one.
    assert StreamSpec(name="S", subjects=("s",), max_age_s=30).config()["duplicate_window"] == 30 * 10**9
    assert StreamSpec(name="S", subjects=("s",)).config()["duplicate_window"] == 120 * 10**9


def test_a_republish_is_named_only_where_there_is_one() -> None:
    assert "republish" not in JOBS.config()
    config = StreamSpec(name="S", subjects=("s.*",), republish=Republish("s.*", "live.{{wildcard(1)}}")).config()
    assert config["republish"] == {"src": "s.*", "dest": "live.{{wildcard(1)}}"}


def test_what_a_stream_adopts_is_not_the_servers_business() -> None:
    assert "adopts" not in JOBS.config()
    assert JOBS.config()["subjects"] == ["jobs.echo", "jobs.echo.high"]


def test_a_bucket_keeps_one_value_a_key_and_takes_a_new_one_when_full() -> None:
    stream = BucketSpec(name="workers", kind="kv", max_age_s=30).stream()
    assert (stream.name, stream.subjects) == ("KV_workers", ("$KV.workers.>",))
    config = stream.config()
    assert config["max_msgs_per_subject"] == 1
    # Per subject, "new" would refuse the second value of a key.
    assert (config["discard"], config["discard_new_per_subject"]) == ("new", False)
    assert config["allow_rollup_hdrs"]


def test_an_object_store_keeps_every_chunk() -> None:
    stream = BucketSpec(name="artifacts", kind="objects").stream()
    assert (stream.name, stream.max_msgs_per_subject) == ("OBJ_artifacts", -1)
    assert stream.subjects == ("$O.artifacts.C.>", "$O.artifacts.M.>")


def test_a_consumer_never_gives_up_and_never_backs_off() -> None:
    config = ConsumerSpec(stream="JOBS", name="echo", subject="jobs.echo").config()
    assert config["max_deliver"] == -1
    assert "backoff" not in config
    assert config["ack_policy"] == "explicit"


def test_a_route_becomes_a_consumer_on_the_stream_that_owns_its_subject() -> None:
    route = RouteSpec(
        name="jetray-r", subject="sales.>", ack_wait_s=60, max_ack_pending=7, deliver="new", fallback=None
    )
    assert route.on("SALES") == ConsumerSpec(
        stream="SALES", name="jetray-r", subject="sales.>", ack_wait_s=60, max_ack_pending=7, deliver="new"
    )


def test_all_streams_are_streams_and_buckets() -> None:
    topology = Topology(streams=(JOBS,), buckets=(BucketSpec(name="kinds", kind="kv"),))
    assert [stream.name for stream in topology.all_streams()] == ["JOBS", "KV_kinds"]


# --- what differs


def test_what_the_server_leaves_out_is_off() -> None:
    wanted = JOBS.config()
    found = {name: value for name, value in wanted.items() if value not in ("", False, 0)}
    assert differences(wanted, found) == {}


def test_what_the_server_adds_is_its_own() -> None:
    wanted = JOBS.config()
    assert differences(wanted, wanted | {"compression": "none", "metadata": {"_nats.ver": "2.15.1"}}) == {}


def test_subjects_are_a_set() -> None:
    wanted = JOBS.config()
    assert differences(wanted, wanted | {"subjects": ["jobs.echo.high", "jobs.echo"]}) == {}
    assert differences(wanted, wanted | {"subjects": ["jobs.echo"]}) == {
        "subjects": (["jobs.echo"], ["jobs.echo", "jobs.echo.high"])
    }


def test_a_difference_is_what_was_found_and_what_is_wanted() -> None:
    wanted = ConsumerSpec(stream="JOBS", name="echo", subject="jobs.echo", max_ack_pending=5).config()
    assert differences(wanted, wanted | {"max_ack_pending": 7}) == {"max_ack_pending": (7, 5)}
    assert differences(wanted, {k: v for k, v in wanted.items() if k != "max_ack_pending"}) == {
        "max_ack_pending": (None, 5)
    }


@pytest.mark.parametrize("field", ["deliver_policy", "ack_policy", "replay_policy", "name"])
def test_what_cannot_be_changed_is_no_difference(field: str) -> None:
    wanted = ConsumerSpec(stream="JOBS", name="echo", subject="jobs.echo").config()
    assert differences(wanted, wanted | {field: "other"}) == {}


# --- whose subjects


def test_adopted_subjects_are_kept_beside_ours() -> None:
    found = {"subjects": ["jobs.sum.high", "jobs.echo", "jobs.sum"], "retention": "workqueue"}
    assert united(JOBS, found) == ["jobs.echo", "jobs.echo.high", "jobs.sum.high", "jobs.sum"]


def test_strangers_are_refused_by_name() -> None:
    found = {"subjects": ["jobs.echo", "jobs.echo.low", "theirs.>"], "retention": "workqueue"}
    with pytest.raises(Foreign, match=r"JOBS .*jobs\.echo\.low, theirs\.>"):
        united(JOBS, found)


def test_subjects_wider_than_ours_are_strangers() -> None:
    with pytest.raises(Foreign, match=r"jobs\.>"):
        united(JOBS, {"subjects": ["jobs.>"], "retention": "workqueue"})


def test_subjects_within_ours_are_not() -> None:
    events = StreamSpec(name="EVENTS", subjects=("orchestration.*.*.*",))
    assert united(events, {"subjects": ["orchestration.plan.*.*"]}) == ["orchestration.*.*.*"]


def test_another_retention_is_refused() -> None:
    with pytest.raises(Foreign, match="retention limits, wanted workqueue"):
        united(JOBS, {"subjects": ["jobs.echo"]})


# --- patterns


@pytest.mark.parametrize(
    ("pattern", "subject", "matches"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.b.c", False),
        ("a.b.c", "a.b", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*", "a.b.c", False),
        ("*.b", "a.b", True),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        (">", "a", True),
        # A subject with wildcards lies within a pattern when all of it does.
        ("a.*", "a.*", True),
        ("a.*", "a.>", False),
        ("a.>", "a.*", True),
        ("a.>", "a.>", True),
        ("a.b", "a.*", False),
        (">", ">", True),
    ],
)
def test_matching(pattern: str, subject: str, matches: bool) -> None:
    assert subject_matches(pattern, subject) is matches


def _subjects(tokens: str, longest: int) -> list[str]:
    return [".".join(choice) for length in range(1, longest + 1) for choice in product(tokens, repeat=length)]


SUBJECTS = _subjects("ab", 4)
PATTERNS = [pattern for pattern in _subjects("ab*>", 3) if ">" not in pattern[:-1]]


def test_patterns_overlap_where_some_subject_matches_both() -> None:
    matched = {pattern: {s for s in SUBJECTS if subject_matches(pattern, s)} for pattern in PATTERNS}
    for one, other in product(PATTERNS, repeat=2):
        assert subjects_overlap(one, other) is bool(matched[one] & matched[other]), (one, other)


def test_a_pattern_covers_another_where_it_matches_all_its_subjects() -> None:
    matched = {pattern: {s for s in SUBJECTS if subject_matches(pattern, s)} for pattern in PATTERNS}
    for one, other in product(PATTERNS, repeat=2):
        assert subject_matches(one, other) is (matched[other] <= matched[one]), (one, other)
