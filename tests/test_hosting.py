"""`workers.hosting`: the host that is built where jobs run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import anyio
import msgspec
import pytest

from contracts.calls import Returned
from infra.store.files import NatsAccess
from tests.kinds.helpers import Heard, call
from workers.hosting import HostConfig, StorageConfig, WorkspacesConfig, build

KINDS = """
from workers import JobContext, job

@job("writes")
async def writes(ctx: JobContext, value: int) -> str:
    (ctx.workspace / "output" / "file").write_text("x")
    commit = ctx.track()
    return "" if commit is None else commit.files[0].sha256

@job("short")
def short(value: int) -> int:
    return value
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    (tmp_path / "hosted_kinds.py").write_text(KINDS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return msgspec.json.encode(
        HostConfig(
            modules=["hosted_kinds"],
            storage=StorageConfig(
                root=f"file://{tmp_path}/files", nats=NatsAccess(url="nats://nobody.invalid", credentials="/no.creds")
            ),
            workspaces=WorkspacesConfig(base=str(tmp_path / "base")),
        )
    )


def test_it_keeps_files_where_it_was_told_to(config: bytes, tmp_path: Path) -> None:
    host = build(config)
    outcome = anyio.run(host.execute, call("writes", 1), Heard())
    assert isinstance(outcome, Returned)
    name = msgspec.json.decode(outcome.result)
    assert (tmp_path / "files" / "files" / "sha256" / name).read_text() == "x"


def test_nothing_is_made_or_connected_for_jobs_that_ask_for_nothing(config: bytes, tmp_path: Path) -> None:
    host = build(config)
    assert anyio.run(host.execute, call("short", 1), Heard()) == Returned(result=b"1")
    assert not (tmp_path / "files").exists()
    assert not (tmp_path / "base").exists()


def test_an_actor_imports_no_client_of_any_store_before_it_needs_one() -> None:
    code = "import sys, workers.hosting; print([name for name in ('nats', 'fsspec', 's3fs') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
