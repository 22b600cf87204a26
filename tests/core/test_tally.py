"""`workers.core.tally`: whatever order the notices come in, and whoever reads them, the sum is the same."""

from __future__ import annotations

from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.joins import ChildOutcome, Notice
from contracts.tokens import is_token
from workers.core.tally import Tally, child_id, child_key, duplicate_keys

CHILDREN: Final = ["k.P1-DEV", "k.P1-QA", "other.P1-OPS"]
OUTCOMES: Final[list[ChildOutcome]] = ["completed", "failed", "cancelled", "refused"]
_settings = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def notice(child: str = "k.P1-QA", outcome: ChildOutcome = "completed", sequence: int = 50, **fields: Any) -> Notice:
    return Notice(child=child, outcome=outcome, sequence=sequence, **({"index": 1, "run": 1} | fields))


def folded(notices: list[Notice], since: int = 0) -> Tally:
    tally = Tally(CHILDREN, since)
    for found in notices:
        tally.fold(found)
    return tally


# One stream's sequences are unique: one of an end in EVENTS names one event, hence one child and one outcome.
ENDS = st.lists(st.tuples(st.sampled_from([*CHILDREN, "k.stranger"]), st.sampled_from(OUTCOMES)), max_size=12).map(
    lambda ends: [notice(child, outcome, 10 * place - 9, index=0) for place, (child, outcome) in enumerate(ends, 1)]
)


def test_a_batch_is_done_when_every_child_has_ended() -> None:
    tally = Tally(CHILDREN)
    assert tally.counts() == {"completed": 0, "failed": 0, "cancelled": 0, "refused": 0, "open": 3}
    for place, outcome in ((1, "completed"), (0, "refused"), (2, "failed")):
        assert not tally.done
        assert tally.fold(notice(CHILDREN[place], outcome, 50 + place, index=place))  # type: ignore[arg-type]
        assert tally.ends[place].outcome == outcome
    assert tally.done
    assert tally.counts() == {"completed": 1, "failed": 1, "cancelled": 0, "refused": 1, "open": 0}


def test_in_a_first_run_every_end_counts() -> None:
    assert Tally(CHILDREN).fold(notice("k.P1-QA", "failed", 1))


def test_the_same_notice_twice_counts_once() -> None:
    tally = Tally(CHILDREN)
    assert tally.fold(notice())
    assert not tally.fold(notice())
    assert tally.counts()["completed"] == 1


@pytest.mark.parametrize("child", ["k.P1-OTHER", "other.P1-QA", "", "k.P1-QA "])
def test_strangers_do_not_count(child: str) -> None:
    tally = Tally(CHILDREN)
    assert not tally.fold(notice(child))
    assert not tally.ends


@pytest.mark.parametrize("index", [0, 1, 2, 99])
def test_a_child_is_known_by_its_name(index: int) -> None:
    """Its end may be found with a message that is none of the batch's, and does not know the child's place."""
    tally = Tally(CHILDREN)
    assert tally.fold(notice("k.P1-QA", index=index))
    assert list(tally.ends) == [1]


# Runs of the parent


@pytest.mark.parametrize(
    ("outcome", "sequence", "counts"),
    [
        ("completed", 99, True),
        ("completed", 101, True),
        ("failed", 99, False),
        ("failed", 100, False),
        ("failed", 101, True),
        ("cancelled", 99, False),
        ("cancelled", 101, True),
    ],
)
def test_of_earlier_runs_only_what_completed_counts(outcome: ChildOutcome, sequence: int, counts: bool) -> None:
    tally = Tally(CHILDREN, since=100)
    assert tally.fold(notice("k.P1-QA", outcome, sequence)) is counts
    assert bool(tally.ends) is counts


def test_the_latest_end_of_a_child_counts() -> None:
    earlier, later = notice("k.P1-QA", "failed", 50), notice("k.P1-QA", "completed", 60, run=2)
    for order in ([earlier, later], [later, earlier]):
        assert folded(order).ends == {1: later}


@pytest.mark.parametrize("outcome", ["completed", "failed", "cancelled"])
@pytest.mark.parametrize("letter", [1, 10_000])
def test_an_end_goes_before_a_refusal(outcome: ChildOutcome, letter: int) -> None:
    """The sequence of a refusal is one of `DLQ`, and says nothing beside one of `EVENTS`."""
    refused, end = notice("k.P1-QA", "refused", letter), notice("k.P1-QA", outcome, 50)
    for order in ([refused, end], [end, refused]):
        assert folded(order).ends == {1: end}


@given(ends=ENDS, data=st.data(), since=st.integers(0, 120))
@_settings
def test_the_order_of_the_notices_does_not_matter(ends: list[Notice], data: st.DataObject, since: int) -> None:
    shuffled = data.draw(st.permutations(ends))
    assert folded(shuffled, since).ends == folded(ends, since).ends


@given(ends=ENDS, since=st.integers(0, 120))
@_settings
def test_reading_them_all_again_changes_nothing(ends: list[Notice], since: int) -> None:
    tally = folded(ends, since)
    before = dict(tally.ends)
    assert [found for found in ends if tally.fold(found)] == []
    assert tally.ends == before


@given(ends=ENDS, since=st.integers(0, 120))
@_settings
def test_the_counts_add_up(ends: list[Notice], since: int) -> None:
    tally = Tally(CHILDREN, since)
    for found in ends:
        before = dict(tally.ends)
        assert tally.fold(found) is (tally.ends != before)
        counts = tally.counts()
        assert sum(counts.values()) == len(CHILDREN)
        assert tally.done is (counts["open"] == 0)


# Ids of children


@pytest.mark.parametrize(
    ("key", "stands"),
    [
        ("DEV", "DEV"),
        ("dev_2", "dev_2"),
        ("a-b", "d44362d67d921091"),
        ("", "e3b0c44298fc1c14"),
        ("tech lead", "ebe658e5f633a6d9"),
        ("é", "4a99557e4033c353"),
    ],
)
def test_what_stands_for_a_key(key: str, stands: str) -> None:
    assert child_key(key) == stands
    assert child_id("P1", key) == f"P1-{stands}"


def test_an_id_over_128_characters_is_a_digest() -> None:
    assert child_id("p" * 124, "DEV") == "p" * 124 + "-DEV"
    long = child_id("p" * 125, "DEV")
    assert len(long) == 64
    assert long != child_id("p" * 125, "QA")


@given(parent=st.from_regex(r"[A-Za-z0-9_-]{1,128}", fullmatch=True), key=st.text(max_size=140))
@_settings
def test_a_childs_id_is_a_token_and_always_the_same(parent: str, key: str) -> None:
    assert is_token(child_id(parent, key))
    assert child_id(parent, key) == child_id(parent, key)


@given(
    parent=st.from_regex(r"[A-Za-z0-9_]{1,8}(-[A-Za-z0-9_]{1,8})?", fullmatch=True),
    other=st.from_regex(r"[A-Za-z0-9_]{1,8}(-[A-Za-z0-9_]{1,8})?", fullmatch=True),
    keys=st.tuples(st.text(max_size=6), st.text(max_size=6)),
)
@_settings
def test_children_of_two_parents_share_no_id(parent: str, other: str, keys: tuple[str, str]) -> None:
    same = (parent, keys[0]) == (other, keys[1])
    assert (child_id(parent, keys[0]) == child_id(other, keys[1])) is same


def test_duplicate_keys_are_named_once_each() -> None:
    assert duplicate_keys([]) == []
    assert duplicate_keys(["a", "b", "c"]) == []
    assert duplicate_keys(["b", "a", "b", "a", "b"]) == ["b", "a"]


def test_a_key_that_looks_like_anothers_stand_in_is_a_duplicate() -> None:
    assert duplicate_keys(["a-b", child_key("a-b")]) == [child_key("a-b")]


@given(keys=st.lists(st.text(max_size=3), max_size=8))
@_settings
def test_without_duplicate_keys_every_child_has_an_id_of_its_own(keys: list[str]) -> None:
    assert (not duplicate_keys(keys)) is (len({child_id("P1", key) for key in keys}) == len(keys))
