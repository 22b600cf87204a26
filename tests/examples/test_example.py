"""The examples do what their READMEs say."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from contracts import events
from contracts.events import Completed
from infra.bus.nats import connect
from tests.launcher import processes

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples" / "score_text"
RESULT = {
    "score": 0.75,
    "sentences": 4,
    "too_long": [{"words": 24, "begins": "This third sentence, which was"}],
}


def test_tried_it_gives_the_result_and_reports_each_sentence():
    tried = processes.jetray("try", "score_text:score-text", "input.json", cwd=FOLDER)

    assert tried.returncode == 0, tried.stderr
    assert msgspec.json.decode(tried.stdout) == RESULT
    assert tried.stderr.splitlines() == [f"progress done={done} total=4" for done in (1, 2, 3, 4)]


def test_a_text_without_a_sentence_fails():
    tried = processes.jetray("try", "score_text:score-text", "-", cwd=FOLDER, stdin='{"text_id": "t", "text": "..."}')

    assert tried.returncode == 1
    assert tried.stderr == "jetray: score-text failed (user): Fail: the text holds no sentence\n"


def test_its_readme_tries_the_kind_that_is_there():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")

    assert re.findall(r"jetray try (.*)", readme) == ["score_text:score-text input.json"]
    assert "jobs.score-text" in readme


@pytest.mark.server
@pytest.mark.asyncio
async def test_served_it_gives_the_same_result_once(tmp_path):
    body = (FOLDER / "input.json").read_bytes()
    up = ("up", "--nats-port", "0", "--state-dir", str(tmp_path))
    async with processes.started(*up, cwd=FOLDER, RAY_ADDRESS="none") as running:
        url = (await running.says("ready ")).removeprefix("ready ")
        async with connect(url, name="test", wait=False) as bus:
            await bus.publish("jobs.score-text", body)
            log = []
            async for message in bus.follow("EVENTS", "orchestration.score-text.*.readme"):
                log.append(events.decode(message.body))
                if events.is_terminal(log[-1]):
                    break

        assert isinstance(log[-1], Completed)
        assert msgspec.json.decode(log[-1].result) == RESULT
        assert events.event_name(log[0]) == "started"
        assert await running.stop() == 0
