"""`workers.runtime.reissue`: what a message published anew bears."""

from __future__ import annotations

import pytest

from tests.runtime.samples import connected
from workers.runtime.reissue import reissue

pytestmark = pytest.mark.anyio

ORIGINALS = {
    "nats-msg-id": "theirs",
    "Nats-Expected-Last-Sequence": "5",
    "jetray-job-id": "old",
    "Jetray-Run": "1",
    "Jetray-Origin": "JOBS:3",
    "Jetray-Parent": "plan.P1",
    "traceparent": "00-1",
    # A publisher's client may have let it through; ours hands it out, and would not send it.
    "a,b": "1",
}


async def test_a_copy_bears_what_was_there_and_what_is_new() -> None:
    bus = await connected()
    await reissue(
        bus,
        kind="echo",
        job_id="J",
        run=2,
        body=b"{}",
        originals=ORIGINALS,
        subject="planning.plan.approved",
        message_id="m.1",
        origin="PLANNING:9",
    )
    copy = await bus.get("JOBS", 1)
    assert copy is not None
    assert dict(copy.headers) == {
        "Jetray-Parent": "plan.P1",
        "traceparent": "00-1",
        "Nats-Msg-Id": "m.1",
        "Jetray-Job-Id": "J",
        "Jetray-Run": "2",
        "Jetray-Origin": "PLANNING:9",
        "Jetray-Origin-Subject": "planning.plan.approved",
    }


async def test_a_copy_of_a_copy_tells_where_the_first_was_published() -> None:
    bus = await connected()
    originals = {"jetray-origin-subject": "planning.plan.approved"}
    await reissue(
        bus,
        kind="plan",
        job_id="J",
        run=3,
        body=b"{}",
        originals=originals,
        subject="jobs.plan",
        message_id="m.2",
    )
    copy = await bus.get("JOBS", 1)
    assert copy is not None
    assert copy.headers["Jetray-Origin-Subject"] == "planning.plan.approved"
    assert "Jetray-Origin" not in copy.headers
