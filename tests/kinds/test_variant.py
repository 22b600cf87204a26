"""Kind `variant`: workflows by their registered names, whatever they are made of."""

from __future__ import annotations

import io
import sys
import threading
import types
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from msgspec import Raw
from msgspec.structs import replace

from contracts.batch import Totals, Variant, VariantResult
from contracts.calls import Raised, Reported, Returned, Tracked, TrackingFailed
from infra.store.memory import MemoryFiles, MemoryStore
from tests.kinds.files import ROOT
from tests.kinds.helpers import call, host_of
from tests.kinds.workflows import total
from workers import workflow
from workers.hosting import Depot
from workers.kinds.context import Places
from workers.kinds.host import KindHost
from workers.kinds.registry import KindError, load
from workers.kinds.workflow import Workflows, WorkflowsConfig
from workers.kinds.workspaces import Workspaces

pytestmark = pytest.mark.anyio

MODULE = "tests.kinds.workflows"


@pytest.fixture
def host() -> KindHost:
    return host_of(load([MODULE])["variant"], variant={"modules": [MODULE]})


async def run(host: KindHost, workflow: str, sent: list[Any] | None = None, **parameters: Any) -> Any:
    value = {"workflow": workflow, "name": "a", "parameters": parameters}
    outcome = await host.execute(call("variant", value), ([] if sent is None else sent).append)
    return msgspec.json.decode(outcome.result, type=VariantResult) if isinstance(outcome, Returned) else outcome


async def test_a_function_gives_score_metrics_and_output(host: KindHost) -> None:
    assert await run(host, "tests.sum", x=1, y=2.5) == VariantResult(score=3.5, metrics={"x": 1.0}, output="summed")
    assert total(types.SimpleNamespace(x=1, y=2))["score"] == 3, "and is callable as it was written"


async def test_an_object_judges_its_own_output(host: KindHost) -> None:
    result = await run(host, "tests.judge", x=1, y=2)
    assert result == VariantResult(score=2.0, metrics={"least": 1.0}, output=[1.0, 2.0])


async def test_one_with_a_context_reports(host: KindHost) -> None:
    sent: list[Any] = []
    assert await run(host, "tests.told", sent, score=0.5) == VariantResult(score=0.5)
    assert sent == [Reported(done=1, total=1, message="T1")]


async def test_whatever_thread_says_something_it_is_heard_on_the_hosts_own_loop(host: KindHost) -> None:
    here, heard = threading.get_ident(), []

    def send(frame: Any) -> None:
        heard.append((frame.done, threading.get_ident() == here))

    value = {"workflow": "tests.threads", "name": "a", "parameters": {}}
    assert isinstance(await host.execute(call("variant", value), send), Returned)
    assert heard == [(1, True), (2, True)]


async def test_an_async_one_runs_to_its_end_and_stops_when_asked(host: KindHost) -> None:
    assert await run(host, "tests.async", x=0.01) == VariantResult(score=0.01)
    found: list[Any] = []

    async def endless() -> None:
        found.append(await run(host, "tests.async", x=3600))

    async with anyio.create_task_group() as group:
        group.start_soon(endless)
        await anyio.wait_all_tasks_blocked()
        assert host.cancel("variant.T1")
    assert [outcome.error.type for outcome in found] == ["Cancelled"]


@pytest.mark.parametrize(
    ("end", "reason", "retryable", "text"),
    [
        ("fail", "user", False, "no such prompt"),
        ("retry", "user", True, "busy"),
        ("text", "user", False, "workflow tests.says must give score, metrics and output"),
        ("score", "user", False, "Expected `float | null`, got `str` - at `$.score`"),
        ("error", "user", True, "not told how to end"),
    ],
)
async def test_how_it_may_end_otherwise(host: KindHost, end: str, reason: str, retryable: bool, text: str) -> None:
    outcome = await run(host, "tests.says", end=end)
    assert isinstance(outcome, Raised)
    assert (outcome.error.reason, outcome.error.retryable) == (reason, retryable)
    assert text in outcome.error.message


async def test_parameters_that_do_not_fit_are_named(host: KindHost) -> None:
    outcome = await run(host, "tests.sum", x="one")
    assert outcome.error.message == (
        "workflow tests.sum: parameters do not fit: Expected `float`, got `str` - at `$.x`"
    )
    assert not outcome.error.retryable


async def test_a_message_names_registered_workflows_alone(host: KindHost) -> None:
    outcome = await run(host, "os.system", command="true")
    assert (outcome.error.reason, outcome.error.retryable) == ("config", False)
    assert outcome.error.message == (
        "no workflow os.system is registered (known: tests.async, tests.edits, tests.judge, tests.own-loop, "
        "tests.says, tests.sum, tests.threads, tests.told); name its module in setting kinds.modules"
    )


# --- company


@pytest.mark.parametrize(
    ("value", "company"),
    [
        ({"workflow": "tests.sum"}, "tests.sum"),
        ({"workflow": "tests.judge"}, "tests.judge"),
        ({"workflow": "tests.told"}, None),
        ({"workflow": "tests.async"}, None),
        ({"workflow": "nobody.knows"}, None),
        ({"workflow": "tests.sum", "files": {}}, None),
        ({"workflow": "tests.sum", "inputs": {"a": "nats://artifacts/a"}}, None),
    ],
)
def test_only_plain_workflows_without_files_keep_company(value: dict[str, Any], company: str | None) -> None:
    kind = load([MODULE])["variant"]
    assert kind.may_share
    assert not kind.is_short
    asked = msgspec.convert({"name": "a", **value}, Variant)
    assert kind.company(Raw(msgspec.json.encode({"modules": [MODULE]})))(asked) == company


async def test_in_company_it_runs_as_any_other_time(host: KindHost) -> None:
    value = {"workflow": "tests.sum", "name": "a", "parameters": {"x": 2}}
    outcome = await host.execute(replace(call("variant", value), streams=False), _never)
    assert isinstance(outcome, Returned)
    assert msgspec.json.decode(outcome.result)["score"] == 2


async def test_in_company_it_may_have_a_loop_of_its_own(host: KindHost) -> None:
    value = {"workflow": "tests.own-loop", "name": "a", "parameters": {"x": 0.001}}
    for streams in (False, True):
        outcome = await host.execute(replace(call("variant", value), streams=streams), _never)
        assert isinstance(outcome, Returned), outcome
        assert msgspec.json.decode(outcome.result)["score"] == 0.001


def _never(frame: Any) -> None:
    raise AssertionError(f"it says {frame}")


# --- files


FILES = {"include": ["*.csv"], "exclude": []}


class Kept:
    """A host whose files are kept in memory."""

    def __init__(self, base: Path) -> None:
        store = MemoryStore()
        self._kept = store.kept
        depot = Depot(ROOT, [], lambda root: MemoryFiles(store, root), patience_s=0)
        MemoryFiles(store, ROOT).keep("prompt.txt", io.BytesIO(b"Be brief."))
        places = Places(workspaces=Workspaces(str(base)), storage=depot)
        self._host = KindHost(load([MODULE]), {"variant": Raw(msgspec.json.encode({"modules": [MODULE]}))}, places)

    async def run(self, name: str, files: Any = FILES, **parameters: Any) -> tuple[Any, list[Any]]:
        """Its outcome, and what it said."""
        told: list[Any] = []
        value = {
            "workflow": "tests.edits",
            "name": name,
            "parameters": {"text": name, **parameters},
            "inputs": {"prompt.txt": f"{ROOT}/prompt.txt"},
            "files": files,
        }
        outcome = await self._host.execute(call("variant", value, job_id=f"B7-{name}"), told.append)
        result = msgspec.json.decode(outcome.result, type=VariantResult) if isinstance(outcome, Returned) else outcome
        return result, told

    def text(self, tracked: Any) -> bytes:
        """What is kept of the only file that was tracked."""
        [file] = tracked.files
        assert file.name == "plots/a.csv"
        return self._kept[f"{ROOT}/files/sha256/{file.sha256}"]


async def test_no_byte_crosses_between_variants_that_write_alike_and_edit_their_input(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    found: dict[str, tuple[Any, list[Any]]] = {}

    async def one(name: str, edits: bool) -> None:
        found[name] = await kept.run(name, edits=edits)

    async with anyio.create_task_group() as group:
        for name in ("a", "b", "c"):
            group.start_soon(one, name, name == "a")
    found["late"] = await kept.run("late")
    for name, (result, told) in found.items():
        assert result == VariantResult(score=1.0, output="Be brief.", files=Totals(count=1, bytes=len(name)))
        [tracked] = told
        assert isinstance(tracked, Tracked)
        assert kept.text(tracked) == name.encode()


async def test_files_of_one_that_fails_are_tracked_too(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    outcome, [tracked] = await kept.run("a", fails=True)
    assert isinstance(outcome, Raised)
    assert (outcome.error.type, outcome.error.message) == ("ValueError", "after its files were written")
    assert kept.text(tracked) == b"a"


@pytest.mark.parametrize("end", ["fail", "error", "score"])
async def test_where_nothing_can_be_tracked_a_workflows_own_end_stands(tmp_path: Path, end: str) -> None:
    (tmp_path / "file").write_text("")
    places = Places(workspaces=Workspaces(str(tmp_path / "file" / "base")))
    host = KindHost(load([MODULE]), {"variant": Raw(msgspec.json.encode({"modules": [MODULE]}))}, places)
    value = {"workflow": "tests.says", "name": "a", "parameters": {"end": end}, "files": FILES}
    told: list[Any] = []
    outcome = await host.execute(call("variant", value), told.append)
    assert isinstance(outcome, Raised)
    assert outcome.error.reason == "user"
    [failed] = told
    assert isinstance(failed, TrackingFailed)
    assert (failed.error.reason, failed.error.type, failed.files) == ("storage", "StorageError", [])
    assert failed.error.message == "no directory can be made under setting workspaces.base: Not a directory"


async def test_any_number_of_bytes_may_be_asked_for(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    result, [tracked] = await kept.run("a", files={**FILES, "max_bytes": 2**64})
    assert isinstance(result, VariantResult)
    assert isinstance(tracked, Tracked)


# --- how workflows are written


def test_a_name_declared_twice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("twice")
    module.first = workflow("same")(_one)  # type: ignore[attr-defined]
    module.second = workflow("same")(_other)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "twice", module)
    with pytest.raises(KindError, match=r"workflow same is declared twice: .*_one.* and .*_other"):
        Workflows(WorkflowsConfig(modules=["twice"]))


def test_a_workflow_is_written_as_a_kind_is() -> None:
    with pytest.raises(KindError, match="has no type"):
        workflow("untyped")(lambda parameters: None)
    with pytest.raises(KindError, match="needs a method run"):
        workflow("empty")(type("Empty", (), {}))
    with pytest.raises(KindError, match="needs a name"):
        workflow("")(_one)


def _one(parameters: dict[str, Any]) -> None: ...


def _other(parameters: dict[str, Any]) -> None: ...
