"""Publishing many messages: every answer of the server's is heard."""

from __future__ import annotations

from collections.abc import AsyncIterator

import nats
import pytest
import pytest_asyncio

from infra.bus.topology import StreamSpec, Topology
from tests.benchmarks import publisher as publishers
from tests.benchmarks.publisher import Message, Publisher, Unacknowledged, fill
from tests.benchmarks.stage import Stage, stage

pytestmark = [pytest.mark.server, pytest.mark.asyncio]


@pytest_asyncio.fixture
async def on() -> AsyncIterator[Stage]:
    """A server with a stream that holds ten messages a subject."""
    async with stage("test") as made:
        spec = StreamSpec(
            name="S", subjects=("s.a", "s.b"), discard="new", discard_per_subject=True, max_msgs_per_subject=10
        )
        await made.bus.apply(Topology(streams=(spec,)))
        yield made


async def test_all_are_stored(on: Stage):
    assert await fill(on.url, [Message("s.a", b"x", {"k": "v"})] * 10) == 10
    assert await on.messages("S") == await on.last("S") == 10


async def test_a_refusal_is_no_success(on: Stage):
    with pytest.raises(Unacknowledged, match=r"1 publishes were refused; .* number 10: .*10077"):
        await fill(on.url, [Message("s.a", b"x")] * 11)


async def test_a_subject_of_nobody_is_no_success(on: Stage):
    with pytest.raises(Unacknowledged, match="status 503"):
        await fill(on.url, [Message("s.c", b"x")])


async def test_it_is_told_which_were_stored(on: Stage):
    client = await nats.connect(on.url)
    publisher = Publisher(client)
    await publisher.open()
    for number in range(24):
        await publisher.send(Message("s.a" if number % 2 else "s.b", b"x"))
    await publisher.settle()
    await client.close()
    assert publisher.accepted == set(range(20))
    assert set(publisher.refused) == set(range(20, 24))


async def test_silence_is_no_success(on: Stage, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(publishers, "ANSWER_S", 0.05)
    client = await nats.connect(on.url)
    await client.subscribe("nobody.stores")
    publisher = Publisher(client)
    await publisher.open()
    await publisher.send(Message("nobody.stores", b"x"))
    with pytest.raises(Unacknowledged, match="1 publishes got no answer"):
        await publisher.settle()
    await client.close()
