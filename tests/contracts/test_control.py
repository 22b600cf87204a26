from __future__ import annotations

import msgspec
import pytest

from contracts import subjects
from contracts.control import Cancel, CancelRequest, Drain, NotACommand, Replay, parse


@pytest.mark.parametrize(
    ("subject", "command"),
    [
        (subjects.cancel("deliberation", "P1-DEV"), Cancel("deliberation", "P1-DEV")),
        (subjects.replay(17), Replay(17)),
        (subjects.replay(10**18 - 1), Replay(10**18 - 1)),
        (subjects.drain("gw-1"), Drain("gw-1")),
    ],
)
def test_the_subject_is_the_command(subject, command):
    assert parse(subject) == command


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "control",
        "control.cancel",
        "control.cancel.deliberation",
        "control.cancel.deliberation.P1.x",
        "control.cancel.deliberation.*",
        "control.cancel.*.P1",
        "control.cancel..P1",
        "control.replay",
        "control.replay.",
        "control.replay.0",
        "control.replay.-1",
        "control.replay.+1",
        "control.replay.1_0",
        "control.replay.٣",
        "control.replay.1\n",
        "control.replay.1.2",
        "control.replay." + "9" * 19,
        "control.drain",
        "control.drain.gw 1",
        "control.drain.gw-1.now",
        "control.pause.gw-1",
        "other.drain.gw-1",
    ],
)
def test_what_is_no_command_is_refused_with_the_ways_to_say_it(subject):
    with pytest.raises(NotACommand, match=r"is none of control\.cancel\.<kind>\.<job_id>, control\.replay"):
        parse(subject)


def test_an_empty_cancel_request_has_its_own_words():
    assert msgspec.json.decode(b"{}", type=CancelRequest) == CancelRequest(
        reason="cancelled by an operator", requested_by="operator"
    )


def test_a_cancel_request_refuses_fields_that_it_does_not_know():
    with pytest.raises(msgspec.ValidationError, match="unknown field `resaon`"):
        msgspec.json.decode(b'{"resaon":"typo"}', type=CancelRequest)
