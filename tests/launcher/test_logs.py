"""What goes to the log, and what does not."""

from __future__ import annotations

import pytest

from tests.launcher.processes import started


@pytest.mark.asyncio
async def test_a_password_in_the_servers_url_is_never_logged(tmp_path):
    url = "nats://me:secret@127.0.0.1:9"
    async with started("worker", cwd=tmp_path, NATS_URL=url, RAY_ADDRESS="none") as running:
        line = await running.says("cannot be reached", on="stderr")

    assert "nats://***@127.0.0.1:9" in line
    assert "secret" not in line
