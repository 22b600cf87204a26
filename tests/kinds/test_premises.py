"""`workers.kinds.premises`: an exclusive job works in its attempt's workspace, and no other does."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from contracts.calls import Raised, Returned
from tests.kinds.helpers import Heard, call, error_of
from workers import JobContext, job
from workers.kinds.context import Places
from workers.kinds.host import KindHost
from workers.kinds.premises import OUTPUT_DIR, PROJECT_DIR, Premises
from workers.kinds.registry import Kind
from workers.kinds.storage import StorageError
from workers.kinds.workspaces import Workspaces

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory of this process for as long as a test lasts."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv(OUTPUT_DIR, "before")
    monkeypatch.delenv(PROJECT_DIR, raising=False)
    yield folder
    assert Path.cwd() == folder
    assert (os.environ[OUTPUT_DIR], PROJECT_DIR in os.environ) == ("before", False)


def host_of(kind: Any, base: Path, *, keep_failed: bool = False) -> KindHost:
    assert isinstance(kind, Kind)
    return KindHost({"k": kind}, {}, Places(workspaces=Workspaces(str(base), keep_failed=keep_failed)), Premises())


async def run(host: KindHost, value: Any = None, **fields: Any) -> Returned | Raised:
    return await host.execute(replace(call("k", value), **{"exclusive": True, **fields}), Heard())


def found(folder: Path, pattern: str) -> list[Path]:
    return [*folder.glob(pattern)]


def seen() -> dict[str, str]:
    return {"cwd": os.getcwd(), "output": os.environ[OUTPUT_DIR], "project": os.environ.get(PROJECT_DIR, "")}


@job("k")
class Works:
    """Writes a file by a relative name, and says what it saw."""

    def company(self, value: str | None) -> str:
        return ""

    def run(self, ctx: JobContext, value: str | None) -> dict[str, str]:
        SEEN.append(seen())
        if value is not None:
            Path(value).write_text("x")
        os.chdir("/")
        if value == "fails":
            raise ValueError("no")
        return SEEN[-1]


SEEN: list[dict[str, str]] = []


@pytest.mark.parametrize("streams", [True, False])
async def test_relative_names_lie_in_the_workspace(tmp_path: Path, project: Path, streams: bool) -> None:
    host = host_of(Works, tmp_path / "base")
    outcome = await run(host, "output/file", streams=streams)
    assert isinstance(outcome, Returned)
    told = {"cwd": "<workspace>", "output": "<workspace>/output", "project": str(project)}
    assert sorted(outcome.result.decode().strip("{}").split(",")) == sorted(f'"{k}":"{v}"' for k, v in told.items())
    workspace = Path(SEEN[-1]["cwd"])
    assert workspace.parent.parent == tmp_path / "base"
    assert found(workspace, "*") == found(project, "*") == []


@pytest.mark.parametrize("streams", [True, False])
async def test_each_attempt_finds_it_fresh(tmp_path: Path, streams: bool) -> None:
    host = host_of(Works, tmp_path / "base")
    for value in (None, "file", "output/file", None, "fails", None):
        await run(host, value, streams=streams)
        assert Path.cwd() == tmp_path / "project", "it is the process's own again, although the job went elsewhere"
        held = [path.name for path in found(tmp_path, "base/jetray-work-*/*/**/*")]
        assert sorted(held) in ([], ["input", "output"]), "at most an empty one waits for the next attempt"


@pytest.mark.parametrize("streams", [True, False])
async def test_that_of_one_that_failed_is_kept_where_that_is_wanted(tmp_path: Path, streams: bool) -> None:
    host = host_of(Works, tmp_path / "base", keep_failed=True)
    assert error_of(await run(host, "fails", streams=streams)).type == "ValueError"
    assert len(found(tmp_path, "base/jetray-kept-k.T1.1.1-*/fails")) == 1


async def test_where_an_actor_is_shared_the_process_stays_where_it_is(tmp_path: Path, project: Path) -> None:
    @job("k")
    async def shared(ctx: JobContext, value: None) -> dict[str, str]:
        assert ctx.workspace.exists()
        return seen()

    @job("k")
    def with_others(ctx: JobContext, value: None) -> dict[str, str]:
        return seen()

    @job("k")
    def short(value: None) -> dict[str, str]:
        return seen()

    for kind, exclusive in ((shared, False), (with_others, False), (short, True)):
        outcome = await run(host_of(kind, tmp_path / "base"), exclusive=exclusive)
        assert isinstance(outcome, Returned)
        assert f'"cwd":"{project}","output":"before","project":""' in outcome.result.decode()


async def test_a_kind_is_built_where_the_process_is(tmp_path: Path, project: Path) -> None:
    (project / "model").write_text("weights")

    @job("k")
    class Built:
        def __init__(self) -> None:
            self.model = Path("model").read_text()

        def run(self, ctx: JobContext, value: None) -> str:
            return self.model

    assert await run(host_of(Built, tmp_path / "base")) == Returned(result=b'"weights"')


@pytest.mark.parametrize("entry", ["", ".", "lib"])
async def test_modules_that_were_found_still_are(
    tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch, entry: str
) -> None:
    name = f"found_later_{len(entry)}"
    (project / entry).mkdir(exist_ok=True)
    (project / entry / f"{name}.py").write_text("value = 'found'")
    sys.path.insert(0, entry)
    sys.path.append("__editable__.finder.__path_hook__")
    monkeypatch.setenv("PYTHONPATH", f"{entry or '.'}{os.pathsep}/elsewhere")

    @job("k")
    def importing(ctx: JobContext, value: None) -> list[str]:
        here: str = importlib.import_module(name).value
        code = f"import {name}; print({name}.value, end='')"
        started = [sys.executable, "-P", "-c", code]
        return [here, subprocess.run(started, capture_output=True, text=True, check=True).stdout]

    assert await run(host_of(importing, tmp_path / "base")) == Returned(result=b'["found","found"]')
    assert sys.path[-1] == "__editable__.finder.__path_hook__", "names for import hooks are left alone"
    assert os.environ["PYTHONPATH"].endswith("/elsewhere")


async def test_without_a_directory_to_work_in_it_does_not_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    error = error_of(await run(host_of(Works, tmp_path / "file" / "base")))
    assert (error.reason, error.type, error.retryable) == ("storage", "StorageError", True)
    with pytest.raises(StorageError, match="cannot be worked in"), Premises().lent(tmp_path / "nowhere"):
        pass


def test_a_process_whose_directory_is_gone_goes_to_the_root(tmp_path: Path, project: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    os.chdir(gone)
    premises = Premises()
    gone.rmdir()
    with premises.lent(project):
        assert Path.cwd() == project
    assert Path.cwd() == Path("/")
    (tmp_path / "gone").mkdir()
    os.chdir(gone)
    gone.rmdir()
    with Premises().lent(project):
        assert os.environ[PROJECT_DIR] == "/"
    os.chdir(project)
