from __future__ import annotations

import re
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import tokens
from contracts.tokens import BadToken, as_token, is_token, short_hash, token_or_raise

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
NO_TOKENS = ["", "a.b", "*", ">", "a b", "a\n", "\n", "ä", "٣", "a" * 129, "a\x00", "jobs.*", "\ud800", "\u212a"]


@given(st.text(ALPHABET, min_size=1, max_size=128))
def test_a_token_is_itself(value):
    assert is_token(value)
    assert as_token(value) == value
    assert token_or_raise("job id", value) == value


@given(st.text(st.characters(exclude_categories=())))
def test_as_token_always_yields_a_token(value):
    assert re.fullmatch("[A-Za-z0-9_-]{1,128}", as_token(value), re.ASCII)
    assert as_token(as_token(value)) == as_token(value)


@pytest.mark.parametrize("value", NO_TOKENS)
def test_what_is_no_token_is_replaced_by_its_sha256(value):
    assert not is_token(value)
    assert as_token(value) == sha256(value.encode("utf-8", "surrogatepass")).hexdigest()


def test_the_hash_is_of_the_utf8_bytes():
    assert as_token("P1 DEV") == "c6a80159837074df376175c625759fc21934df7456c959968fe810b0babce772"


@pytest.mark.parametrize("value", NO_TOKENS)
def test_a_refusal_names_what_it_was_to_be(value):
    with pytest.raises(BadToken, match=r"job id .* is not a token: 1 to 128 of"):
        token_or_raise("job id", value)


def test_a_refusal_of_something_long_stays_short():
    with pytest.raises(BadToken) as caught:
        token_or_raise("kind", "x" * 1_000_000)
    assert len(str(caught.value)) < 400


def test_short_hash_is_a_prefix_of_the_sha256():
    assert short_hash("a-b") == sha256(b"a-b").hexdigest()[:16]
    assert is_token(short_hash("\udfff"))


def test_what_is_too_long_is_not_remembered():
    before = tokens._is_short_token.cache_info().currsize
    assert not is_token("a" * 1_000_000)
    assert tokens._is_short_token.cache_info().currsize == before
