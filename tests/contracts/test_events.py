from __future__ import annotations

import msgspec
import pytest

from contracts import events
from contracts.events import DeliveryRef, Started, event_name, event_type, is_terminal
from tests.contracts.samples import EVENTS, golden

TERMINAL = {"completed", "failed", "cancelled"}


@pytest.mark.parametrize("name", EVENTS)
def test_the_word_of_an_event_stands_in_its_body(name):
    word = name.partition("-")[0]
    assert event_name(EVENTS[name]) == event_name(type(EVENTS[name])) == word
    assert golden("events")[name].startswith(b'{"event":"' + word.encode() + b'","kind":')


@pytest.mark.parametrize("name", EVENTS)
def test_three_events_end_a_run(name):
    assert is_terminal(EVENTS[name]) is (name.partition("-")[0] in TERMINAL)


def test_the_cloudevents_type_has_kind_word_and_version():
    assert event_type("deliberation", "completed") == "jetray.deliberation.completed.v1"


def test_later_deliveries_compare_greater():
    assert DeliveryRef(17, 1) < DeliveryRef(17, 2) < DeliveryRef(18, 1)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b'"event":"started"', b'"event":"begun"', "Invalid value 'begun'"),
        (b'"n":1', b'"n":0', "`int` >= 1 - at `\\$.n`"),
        (b'"run":1', b'"run":0', "at `\\$.run`"),
        (b'"attempt":1', b'"attempt":0', "at `\\$.attempt`"),
        (b'"actor":"deliberation-1",', b"", "missing required field `actor`"),
        (b".123456Z", b".123456", "timezone"),
        (b'"waited_ms":12', b'"waited_ms":-1', "at `\\$.waited_ms`"),
    ],
)
def test_what_is_no_event_is_refused(old, new, words):
    body = golden("events")["started"]
    assert old in body
    with pytest.raises(msgspec.DecodeError, match=words):
        events.decode(body.replace(old, new))


def test_what_is_at_its_default_is_left_out():
    body = golden("events")["progress-least"]
    for name in (b"parent", b"correlation_id", b"subject_id", b"cancelling", b"done", b"counts"):
        assert b'"' + name + b'":' not in body


def test_a_batch_says_that_it_has_no_actor():
    started = events.decode(golden("events")["started-batch"])
    assert isinstance(started, Started)
    assert started.actor is None
    assert b'"actor":null' in golden("events")["started-batch"]
