"""The search over prompts, served as its README says."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from contracts import events
from contracts.batch import BatchResult
from contracts.events import Completed, FilesTracked
from infra.bus.nats import connect
from tests.launcher import processes

pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.asyncio]

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "prompt_search"


async def test_it_tells_the_best_of_six_and_keeps_what_each_wrote(tmp_path: Path) -> None:
    up = ("up", "--nats-port", "0", "--state-dir", str(tmp_path))
    async with processes.started(*up, cwd=FOLDER, RAY_ADDRESS="none") as running:
        url = (await running.says("ready ")).removeprefix("ready ")
        async with connect(url, name="test", wait=False) as bus:
            await bus.publish("jobs.batch", (FOLDER / "batch.json").read_bytes())
            tracked = 0
            async for message in bus.follow("EVENTS", "orchestration.*.*.*"):
                event = events.decode(message.body)
                tracked += isinstance(event, FilesTracked)
                if event.kind == "batch" and events.is_terminal(event):
                    break
    assert isinstance(event, Completed), event
    result = msgspec.json.decode(event.result, type=BatchResult)
    assert result.best is not None
    assert (result.best.name, result.best.score) == ("tone=plain,words=20", 1.0)
    scores = [row.score or 0.0 for row in result.comparison]
    assert scores == sorted(scores, reverse=True)
    assert (tracked, result.files.count) == (6, 6)
