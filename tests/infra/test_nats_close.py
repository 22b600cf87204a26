"""Closing a connection to NATS that breaks while it is closed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from infra.bus.embedded import nats_server
from infra.bus.nats import connect

pytestmark = [pytest.mark.asyncio, pytest.mark.server]


async def test_a_connection_that_breaks_while_it_is_flushed_closes_quietly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = asyncio.all_tasks()
    async with nats_server(tmp_path) as server, connect(server.url, name="test") as bus:
        client = bus._client

        async def broken() -> None:
            raise ConnectionResetError("Connection lost")

        monkeypatch.setattr(client._transport, "drain", broken)
        # As it is between a publish and the flusher's turn.
        client._pending.append(b"PING\r\n")
        client._pending_data_size += 6
        await bus.close()
        assert client.is_closed
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == before
