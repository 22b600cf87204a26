from __future__ import annotations

import re
import string
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import headers as h
from contracts.dlq import dead_headers, message_id, original_headers
from contracts.errors import Reason
from infra.bus.memory.wire import as_sent

ORIGIN: dict[str, Any] = {
    "kind": "deliberation",
    "job_id": "JOBS-17",
    "run": 1,
    "reason": "decode",
    "attempts": 0,
    "stream": "JOBS",
    "sequence": 17,
    "subject": "jobs.deliberation",
}


def bury(original):
    return dead_headers(**ORIGIN, original=original)


def test_says_where_it_came_from_and_why():
    assert bury({"Nats-Msg-Id": "deliberation.T1.1", "Nats-TTL": "1h"}) == {
        "Nats-Msg-Id": "JOBS-17.decode",
        "Jetray-Kind": "deliberation",
        "Jetray-Job-Id": "JOBS-17",
        "Jetray-Run": "1",
        "Jetray-Reason": "decode",
        "Jetray-Attempts": "0",
        "Jetray-Origin": "JOBS:17",
        "Jetray-Origin-Subject": "jobs.deliberation",
        "Jetray-Header-Nats-Msg-Id": "deliberation.T1.1",
        "Jetray-Header-Nats-TTL": "1h",
    }


@pytest.mark.parametrize("name", ["Nats-Expected-Stream", "Nats-Expected-Last-Sequence", "Nats-Rollup", "Nats-TTL"])
def test_no_header_of_the_original_acts_on_the_dead_letter(name):
    assert name not in bury({name: "x"})


@given(
    st.dictionaries(
        st.text(st.sampled_from("!#$%&'*+-.^_`|~" + string.digits + string.ascii_letters), min_size=1),
        st.text(st.characters(exclude_characters="\r\n")),
    )
)
def test_the_original_headers_come_back(original):
    assert original_headers(bury(original)) == original


def test_a_dead_letter_buried_again_comes_back_by_one_step():
    once = bury({"traceparent": "t"})
    assert original_headers(bury(once)) == once


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=8)))
def test_no_header_can_break_out_of_its_line(original):
    for name, value in bury(original).items():
        assert not re.search(r"[\r\n]", name + value)
        assert not re.search(r'[ :\t"]', name)
        assert name not in ("", h.ORIGINAL_PREFIX)


@pytest.mark.parametrize("name", ["a,b", "a@b", "(x)", "a\x01", "größe", "a b", ""])
def test_a_name_that_no_client_sends_is_left_out(name):
    """Clients hand such names out all the same, and a dead letter that holds one could never be sent."""
    assert original_headers(as_sent("dlq.k.J", bury({name: "1", "x": "2"}))) == {"x": "2"}


@pytest.mark.parametrize("reason", get_args(Reason))
def test_written_twice_it_is_stored_once(reason):
    assert message_id("JOBS", 17, reason) == f"JOBS-17.{reason}"
