"""Files where jobs really run: a child process and Ray actors, on a nats-server and in a directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.events import Completed, FilesTracked
from infra.store.edge import Link, ObjectFiles
from infra.store.folder import FolderFiles
from tests.integration.stack import stack

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.anyio]

KINDS = """
import anyio
from msgspec import Struct
from workers import JobContext, job

class In(Struct):
    id: str
    uri: str = ""

def double(ctx, item):
    text = "new"
    if item.uri:
        text = (ctx.stage({"in/file": item.uri}) / "in" / "file").read_text() * 2
    (ctx.workspace / "output" / "deep").mkdir()
    (ctx.workspace / "output" / "deep" / "file").write_text(text)
    commit = ctx.track(["deep/*"])
    return f"files/sha256/{commit.files[0].sha256}"

@job("in-thread", id_field="id")
def in_thread(ctx: JobContext, item: In) -> str:
    return double(ctx, item)

@job("on-loop", id_field="id")
async def on_loop(ctx: JobContext, item: In) -> str:
    return await anyio.to_thread.run_sync(double, ctx, item)
"""


@pytest.mark.parametrize("where", ["none", pytest.param("local", marks=pytest.mark.ray)])
@pytest.mark.parametrize("root", ["nats://artifacts", "file"])
@pytest.mark.timeout(240)
async def test_one_job_tracks_what_the_next_one_stages(tmp_path: Path, where: str, root: str) -> None:
    folder, base = tmp_path / "here", tmp_path / "base"
    folder.mkdir()
    (folder / "mykinds.py").write_text(KINDS)
    root = f"file://{tmp_path}/files" if root == "file" else root
    (folder / "jetray.toml").write_text(
        f'[storage]\nroot = "{root}"\n[workspaces]\nbase = "{base}"\n[kinds]\nmodules = ["mykinds"]\n'
    )
    async with stack(folder) as running:
        await running.gateway(ray=where, PYTHONPATH=str(folder))
        uri = ""
        for kind, job_id in (("in-thread", "a"), ("on-loop", "b"), ("in-thread", "c")):
            await running.publish(f"jobs.{kind}", f'{{"id":"{job_id}","uri":"{uri}"}}')
            end = await running.end(kind, job_id)
            assert isinstance(end, Completed), end
            told = await running.seen(kind, job_id, "files_tracked")
            assert isinstance(told, FilesTracked)
            assert isinstance(told.files, list)
            assert told.n < end.n
            (file,) = told.files
            assert f'"files/sha256/{file.sha256}"'.encode() == bytes(end.result)
            uri = f"{root}/files/sha256/{file.sha256}"
        link = Link(running.url)
        store = FolderFiles(root) if root.startswith("file") else ObjectFiles(root, link)
        with (tmp_path / "fetched").open("w+b") as into:
            store.fetch(uri, into)
        link.close()
        assert (tmp_path / "fetched").read_text() == "new" * 4
        assert found(base, "*/*/*") == [], "each workspace is gone"


def found(folder: Path, pattern: str) -> list[Path]:
    return [*folder.glob(pattern)]
