from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import date
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Raw, Struct

from contracts.codec import Undecodable, canonical, check_depth, decode, encode, unencodable_path

STRINGS = st.text(st.sampled_from('[]{}"\\/,: aü\n'), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | STRINGS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(STRINGS, inner, max_size=4),
    max_leaves=25,
)


def deepest(value: Any) -> int:
    """How many brackets are open at most: the reference, on values instead of on bytes."""
    if isinstance(value, dict):
        return 1 + max((deepest(child) for child in value.values()), default=0)
    if isinstance(value, list):
        return 1 + max((deepest(child) for child in value), default=0)
    return 0


class TestDepth:
    @given(JSON, st.booleans(), st.integers(0, 6))
    @example({'"[[[[': ["\\", '\\"[[[']}, False, 2)
    def test_agrees_with_the_depth_of_the_value(self, value, ascii_only, limit):
        body = json.dumps(value, ensure_ascii=ascii_only).encode()
        if deepest(value) > limit:
            with pytest.raises(Undecodable, match=f"nested deeper than {limit}"):
                check_depth(body, limit)
        else:
            check_depth(body, limit)

    @given(st.binary(max_size=60), st.integers(0, 5))
    @example(b'"\\', 0)
    @example(b'"[[[[[[', 1)
    @example(b'\\"[[[[[[', 1)
    def test_says_something_of_any_bytes(self, body, limit):
        try:
            check_depth(body, limit)
        except Undecodable:
            assert body.count(b"[") + body.count(b"{") > limit

    @pytest.mark.parametrize("bracket", [b"[", b'{"a":'])
    def test_finds_what_would_end_the_process(self, bracket):
        with pytest.raises(Undecodable, match="nested deeper than 64"):
            check_depth(bracket * 100_000, 64)

    @pytest.mark.parametrize(
        "pattern", [b'"\\"', b'"', b"\\", b'\\"', b'""', b'"\\', b"[]", b'["a",{"b":"]"}],', b'"[\\"]"', b"]", b"x[x"]
    )
    @pytest.mark.slow
    def test_takes_time_in_proportion_to_the_length(self, pattern):
        # Eight times the bytes: were the time quadratic, it would be 64 times as long. The thread's own time.
        small, large = (b"[][]" + pattern * count for count in (4_000, 32_000))
        assert fastest(large) < 32 * fastest(small)


def fastest(body: bytes) -> float:
    # The greatest limit with which the whole body is scanned.
    limit = body.count(b"[") + body.count(b"{") - 1

    def once() -> float:
        before = time.thread_time()
        check_depth(body, limit)
        return time.thread_time() - before

    return min(once() for _ in range(5))


class TestDecode:
    decoder = msgspec.json.Decoder(dict[str, Any])

    def test_gives_the_value(self):
        assert decode(self.decoder, b'{"a":[1]}') == {"a": [1]}

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            (b"", "truncated"),
            (b"{", "truncated"),
            (b"nonsense", "malformed"),
            (b"[1]", "Expected `object`, got `array`"),
            (b'{"a":1}}', "trailing characters"),
            (b'{"a":NaN}', "malformed"),
            (b'{"a":1e999}', "out of range"),
            (b'{"a":"\xff"}', "not UTF-8 at byte 0"),
            (b'{"a":"\\ud800"}', "truncated|surrogate"),
            (b'\xef\xbb\xbf{"a":1}', "malformed"),
            (b'{"a":' + b"1" * 5000 + b"}", "out of range"),
            (b'{"a":' + b"[" * 100_000, "nested too deep"),
        ],
    )
    def test_every_way_to_fail_is_one_error(self, body, words):
        with pytest.raises(Undecodable, match=words):
            decode(self.decoder, body)

    def test_of_a_key_given_twice_the_last_one_counts(self):
        assert decode(self.decoder, b'{"a":1,"a":2}') == {"a": 2}


class Inner(Struct, frozen=True):
    x: int = 1
    raw: Raw = Raw(b"null")


class Outer(Struct, frozen=True):
    b: int
    a: Inner = Inner()
    by_number: dict[int, str] = {}
    by_day: dict[date, int] = {}


class TestCanonical:
    @given(JSON, st.randoms())
    def test_equal_values_give_equal_bytes_whatever_their_order(self, value, random):
        assert canonical(value) == canonical(shuffled(value, random))

    @given(JSON)
    def test_loses_nothing(self, value):
        assert msgspec.json.decode(canonical(value)) == value

    def test_defaults_are_spelled_out(self):
        spelled = msgspec.json.decode(b'{"a":{"raw":null,"x":1},"by_day":{},"by_number":{},"b":2}', type=Outer)
        assert canonical(Outer(2)) == canonical(spelled)

    def test_raw_parts_are_sorted_too(self):
        one, other = Inner(raw=Raw(b'{"p": 1,"q":2}')), Inner(raw=Raw(b'{"q":2,"p":1}'))
        assert canonical(one) == canonical(other) == b'{"raw":{"p":1,"q":2},"x":1}'

    def test_keys_that_are_no_text(self):
        value = Outer(1, by_number={10: "z", 9: "y"}, by_day={date(2026, 11, 22): 1})
        found = canonical(value, frozenset(["a"]))
        assert found == b'{"b":1,"by_day":{"2026-11-22":1},"by_number":{"10":"z","9":"y"}}'

    def test_leaves_out_fields_of_the_top_alone(self):
        assert canonical({"t": 1, "a": {"t": 2}}, frozenset(["t", "u"])) == b'{"a":{"t":2}}'

    def test_what_is_no_object_has_no_fields_to_leave_out(self):
        assert canonical([1, 2], frozenset(["t"])) == b"[1,2]"

    def test_a_raw_part_that_is_no_json_is_undecodable(self):
        with pytest.raises(Undecodable):
            canonical(Inner(raw=Raw(b'"\\ud800"')))


def shuffled(value: Any, random: Any) -> Any:
    if isinstance(value, dict):
        items = list(value.items())
        random.shuffle(items)
        return {key: shuffled(child, random) for key, child in items}
    return [shuffled(child, random) for child in value] if isinstance(value, list) else value


def test_encode_is_compact_and_keeps_the_order_of_fields():
    assert encode(Outer(2)) == b'{"b":2,"a":{"x":1,"raw":null},"by_number":{},"by_day":{}}'


@dataclass
class Report:
    parts: list[Any]


class TestUnencodablePath:
    @pytest.mark.parametrize(
        ("value", "path"),
        [
            (1, None),
            ({"a": [1, {"b": None}]}, None),
            (object(), "$"),
            ({"metrics": {"loss": 1j}}, "$['metrics']['loss']"),
            ([1, [2, object()]], "$[1][1]"),
            (Inner(x=object()), "$.x"),  # type: ignore[arg-type]
            (Report([{"k": object()}]), "$.parts[0]['k']"),
            ({(1, 2): 3}, "$"),
            ({1, object()}, "$"),
            ({"text": "\ud800"}, "$['text']"),
            ({"first": object(), "second": object()}, "$['first']"),
        ],
    )
    def test_names_the_first_place_that_json_cannot_hold(self, value, path):
        assert unencodable_path(value) == path

    def test_a_value_that_holds_itself_has_an_end_here(self):
        value: list[Any] = []
        value.append(value)
        path = unencodable_path(value)
        assert path is not None
        assert path.startswith("$[0][0]")

    @given(JSON)
    def test_finds_nothing_in_json(self, value):
        assert unencodable_path(value) is None
