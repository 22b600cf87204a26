from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from contracts.errors import MESSAGE_BYTES, bounded


@given(st.text(st.characters(exclude_categories=()), max_size=40), st.integers(3, 60))
@example("ä" * 20, 4)
@example("\ud800" * 9, 5)
def test_bounded_keeps_within_the_limit_and_within_utf8(text, limit):
    found = bounded(text, limit)
    assert len(found.encode()) <= limit
    if len(text.encode("utf-8", "replace")) > limit:
        assert found.endswith("…")
        assert text.encode("utf-8", "replace").decode().startswith(found[:-1])


@given(st.text(max_size=MESSAGE_BYTES // 4))
def test_what_fits_stays_as_it_is(text):
    assert bounded(text) == text


@pytest.mark.parametrize(("text", "found"), [("abcdef", "abcdef"), ("abcdefg", "abc…"), ("äöü", "äöü"), ("äöüx", "ä…")])
def test_the_last_byte_that_fits(text, found):
    assert bounded(text, 6) == found


@pytest.mark.parametrize("char", ["a", "ä", "€", "😀"])
def test_the_limit_counts_bytes(char):
    assert MESSAGE_BYTES - 4 < len(bounded(char * 3000).encode()) <= MESSAGE_BYTES
