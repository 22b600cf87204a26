"""examples/langgraph: a graph as a workflow. LangGraph is that example's own requirement, so these skip without it."""

from __future__ import annotations

import asyncio
import importlib.util
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contracts import events
from contracts.batch import Batch, BatchResult, Variant, VariantResult
from contracts.calls import Call, Frame, Reported
from contracts.events import Completed
from infra.bus.nats import connect
from tests.launcher import processes
from workers import Fail, JobContext
from workers.settings import load

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "langgraph"
STEPS = ("split", "weigh", "drop", "drop")
TEXT = "Cats purr. Cats and dogs play. It rained."


@pytest.fixture
def example() -> Any:
    """The graph as the example wraps it."""
    pytest.importorskip("langgraph.graph", reason="needs LangGraph: pip install -r examples/langgraph/requirements.txt")
    spec = importlib.util.spec_from_file_location("summary_graph", FOLDER / "summary_graph.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def frames() -> list[Frame]:
    """What the job reported."""
    return []


@pytest.fixture
def ctx(frames: list[Frame]) -> Iterator[JobContext]:
    call = Call(
        kind="variant",
        job_id="t",
        run=1,
        attempt=1,
        input=b"",
        deadline=time.time() + 60,
        timeout_s=60,
        exclusive=True,
        streams=True,
        correlation_id="t",
    )
    context = JobContext(call, frames.append)
    yield context
    context.close(failed=False)


def test_it_leaves_out_what_tells_least_until_it_is_short_enough(
    example: Any, ctx: JobContext, frames: list[Frame]
) -> None:
    made = example.summarize(ctx, example.Wanted(text=TEXT, words=6))

    assert made["output"] == "Cats purr. Cats and dogs play."
    assert made["metrics"] == {"words": 6, "steps": 3}
    assert 0 < made["score"] < 1
    assert [frame.step for frame in frames if isinstance(frame, Reported)] == ["split", "weigh", "drop"]


def test_a_text_that_is_short_enough_keeps_all(example: Any, ctx: JobContext) -> None:
    made = example.summarize(ctx, example.Wanted(text=TEXT, words=8))

    assert (made["output"], made["score"]) == (TEXT, 1.0)


def test_a_text_without_a_sentence_fails(example: Any, ctx: JobContext) -> None:
    with pytest.raises(Fail, match="no sentence"):
        example.summarize(ctx, example.Wanted(text="...", words=3))


def test_tried_it_gives_the_result_and_reports_each_node(example: Any) -> None:
    tried = processes.jetray("try", "workers.kinds.variant:variant", "variant.json", cwd=FOLDER)

    assert tried.returncode == 0, tried.stderr
    made = msgspec.json.decode(tried.stdout, type=VariantResult)
    assert made.output == "Events become work. Work on the cluster becomes events."
    reported = [line for line in tried.stderr.splitlines() if line.startswith("progress")]
    assert [line.split()[-1] for line in reported] == [f"step={step}" for step in STEPS]
    assert "summary.txt" in tried.stderr


@pytest.mark.server
@pytest.mark.asyncio
async def test_served_it_compares_three_lengths(example: Any, tmp_path: Path) -> None:
    up = ("up", "--nats-port", "0", "--state-dir", str(tmp_path))
    async with processes.started(*up, cwd=FOLDER, RAY_ADDRESS="none") as running:
        url = (await running.says("ready ")).removeprefix("ready ")
        async with connect(url, name="test", wait=False) as bus, asyncio.timeout(processes.PATIENCE_S):
            await bus.publish("jobs.batch", (FOLDER / "batch.json").read_bytes())
            async for message in bus.follow("EVENTS", "orchestration.batch.*.lengths"):
                end = events.decode(message.body)
                if events.is_terminal(end):
                    break

        assert isinstance(end, Completed)
        made = msgspec.json.decode(end.result, type=BatchResult)
        assert [row.name for row in made.comparison] == ["long", "medium", "short"]
        assert made.best is not None
        assert made.best.name == "long"
        assert made.files.count == 3
        assert await running.stop() == 0


def test_its_files_name_the_workflow_that_is_there() -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    [name] = re.findall(r'^@workflow\("(\w+)"\)', (FOLDER / "summary_graph.py").read_text(), re.MULTILINE)
    assert f"`{name}`" in readme
    variant = msgspec.json.decode((FOLDER / "variant.json").read_bytes(), type=Variant)
    batch = msgspec.json.decode((FOLDER / "batch.json").read_bytes(), type=Batch)
    assert variant.workflow == batch.workflow == name
    assert load(FOLDER / "jetray.toml", {}).kinds.modules == ["summary_graph"]


def test_its_package_is_named_for_it_alone() -> None:
    root = FOLDER.parents[1]
    wanted = re.findall(r"^(\w+)", (FOLDER / "requirements.txt").read_text(), re.MULTILINE)
    assert wanted == ["langgraph"]
    for lock in root.glob("requirements*.lock"):
        assert "langgraph" not in lock.read_text()
