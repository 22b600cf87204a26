"""examples/langgraph: a graph as a workflow. LangGraph is that example's own requirement, so these skip without it."""

from __future__ import annotations

import importlib.util
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from contracts.calls import Call, Frame, Reported
from workers import Fail, JobContext

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "langgraph"
TEXT = "Cats purr. Cats and dogs play. It rained."


@pytest.fixture
def workflow() -> Any:
    """The function that the README names."""
    pytest.importorskip("langgraph.graph", reason="needs LangGraph: pip install -r examples/langgraph/requirements.txt")
    spec = importlib.util.spec_from_file_location("summary_graph", FOLDER / "summary_graph.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.run


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
    context.close()


def test_it_leaves_out_what_tells_least_until_it_is_short_enough(
    workflow: Any, ctx: JobContext, frames: list[Frame]
) -> None:
    made = workflow({"text": TEXT, "words": 6}, ctx)

    assert made["output"] == "Cats purr. Cats and dogs play."
    assert made["metrics"] == {"words": 6, "steps": 3}
    assert 0 < made["score"] < 1
    assert (ctx.workspace / "summary.txt").read_text() == made["output"]
    assert [frame.step for frame in frames if isinstance(frame, Reported)] == ["split", "weigh", "drop"]


def test_a_text_that_is_short_enough_keeps_all(workflow: Any, ctx: JobContext) -> None:
    made = workflow({"text": TEXT, "words": 8}, ctx)

    assert (made["output"], made["score"]) == (TEXT, 1.0)


def test_a_text_without_a_sentence_fails(workflow: Any, ctx: JobContext) -> None:
    with pytest.raises(Fail, match="no sentence"):
        workflow({"text": "...", "words": 3}, ctx)


def test_its_files_name_the_function_that_is_there() -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    source = (FOLDER / "summary_graph.py").read_text(encoding="utf-8")
    for name in ("variant.json", "batch.json"):
        assert name in readme
        module, _, function = msgspec.json.decode((FOLDER / name).read_bytes())["workflow"].partition(":")
        assert (FOLDER / f"{module}.py").exists()
        assert f"\ndef {function}(" in source


def test_its_package_is_named_for_it_alone() -> None:
    root = FOLDER.parents[1]
    wanted = re.findall(r"^(\w+)", (FOLDER / "requirements.txt").read_text(), re.MULTILINE)
    assert wanted == ["langgraph"]
    for lock in root.glob("requirements*.lock"):
        assert "langgraph" not in lock.read_text()
