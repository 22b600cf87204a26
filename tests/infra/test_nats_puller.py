"""The puller, where the connection breaks in the moment in which it changes its inbox."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from nats.aio.subscription import Subscription
from nats.errors import FlushTimeoutError

from contracts import subjects
from infra.bus.embedded import nats_server
from infra.bus.nats import connect
from infra.bus.nats.connection import NatsBus
from infra.bus.nats.puller import NatsPuller
from tests.runtime.world import settings
from workers.runtime.topology import topology

pytestmark = [pytest.mark.asyncio, pytest.mark.server]


@pytest_asyncio.fixture
async def bus(tmp_path: Path) -> AsyncIterator[NatsBus]:
    async with nats_server(tmp_path) as server, connect(server.url, name="test") as connected:
        await connected.apply(topology(settings(routes=[], gateway={"name": "gw-1"}), ["puppet"]))
        yield connected


def _breaks(subscription: Subscription) -> None:
    raise FlushTimeoutError


async def _waits(subscription: Subscription) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("drain", [_breaks, _waits])
async def test_an_old_inbox_that_cannot_be_drained_does_not_end_the_pull(
    bus: NatsBus, monkeypatch: pytest.MonkeyPatch, drain: Any
) -> None:
    """As where the connection breaks before the server's word: nats-py forgets then whom to tell of it."""
    monkeypatch.setattr("infra.bus.nats.client.LEAVE_S", 0.1)
    async with bus.pull(subjects.JOBS, "puppet") as puller:
        kept = len(bus._client._subs)
        monkeypatch.setattr(Subscription, "_drain", drain)
        puller.revoke()
        puller.grant(1)
        async with asyncio.timeout(5):
            await bus.publish(subjects.job("puppet"), b"1")
            delivery = await puller.receive()
        assert delivery.body == b"1"
        assert len(bus._client._subs) == kept, "the old inbox is forgotten"


async def test_whoever_receives_hears_what_ended_the_asking(bus: NatsBus, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(puller: NatsPuller) -> None:
        raise LookupError("a bug")

    async with bus.pull(subjects.JOBS, "puppet") as puller:
        monkeypatch.setattr(NatsPuller, "_ask", broken)
        puller.grant(1)
        with pytest.raises(LookupError, match="a bug"):
            await asyncio.wait_for(puller.receive(), 10)
