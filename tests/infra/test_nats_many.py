"""What a bus on NATS makes of answers to many messages, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from infra.bus.base import NoAnswer, Outgoing
from infra.bus.nats.client import Arrived
from infra.bus.nats.connection import NatsBus

pytestmark = pytest.mark.asyncio


async def test_whether_streams_lack_a_leader_is_asked_for_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    bus, asked, all_asked = NatsBus("nats://nowhere", 1.0), 0, asyncio.Event()

    async def no_responders(messages: Sequence[Outgoing]) -> list[Arrived]:
        return [Arrived(message.subject, "", {"Status": "503"}, b"") for message in messages]

    async def owner(subject: str) -> str | None:
        nonlocal asked
        asked += 1
        if asked == 3:
            all_asked.set()
        await all_asked.wait()
        raise NoAnswer(f"nobody leads {subject}")

    monkeypatch.setattr(bus._requests, "request_many", no_responders)
    monkeypatch.setattr(bus._manager, "owner", owner)
    async with asyncio.timeout(5):
        found = await bus.publish_many([Outgoing(f"orchestration.{number}", b"") for number in range(3)])
    assert [str(error) for error in found] == [f"nobody leads orchestration.{number}" for number in range(3)]
