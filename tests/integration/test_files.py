"""Files where jobs really run: a child process and Ray actors, on a nats-server and in a directory."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from contracts.events import Completed, FilesTracked
from infra.store.edge import Link, ObjectFiles
from infra.store.folder import FolderFiles
from tests.integration.stack import stack

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.anyio]

KINDS = """
import asyncio
import os
import anyio
from msgspec import Struct
from workers import JobContext, job

class In(Struct):
    id: str
    uri: str = ""

@job("relative", id_field="id")
def relative(ctx: JobContext, item: In) -> list[str]:
    with open("output/file", "w") as file:
        file.write(item.id)
    with open(os.path.join(os.environ["JETRAY_OUTPUT_DIR"], "beside"), "w") as file:
        file.write("x")
    import beside_kinds
    commit = ctx.track()
    return [os.getcwd(), os.environ["JETRAY_PROJECT_DIR"], beside_kinds.NAME, *(file.name for file in commit.files)]

@job("own-loop", id_field="id")
def own_loop(item: In) -> list[str]:
    return [asyncio.run(asyncio.sleep(0.001, item.id)), os.getcwd()]

@job("shared", id_field="id")
async def shared(ctx: JobContext, item: In) -> list[str | None]:
    return [os.getcwd(), os.environ.get("JETRAY_OUTPUT_DIR")]

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


@pytest.mark.parametrize("where", ["none", pytest.param("local", marks=pytest.mark.ray)])
@pytest.mark.timeout(240)
async def test_an_exclusive_job_works_in_its_workspace(tmp_path: Path, where: str) -> None:
    folder, base = tmp_path / "here", tmp_path / "base"
    folder.mkdir()
    (folder / "mykinds.py").write_text(KINDS)
    (folder / "beside_kinds.py").write_text("NAME = 'beside'")
    (folder / "jetray.toml").write_text(f'[workspaces]\nbase = "{base}"\n[kinds]\nmodules = ["mykinds"]\n')
    async with stack(folder) as running:
        await running.gateway(ray=where, PYTHONPATH=".")
        for job_id in ("a", "b"):
            await running.publish("jobs.relative", f'{{"id":"{job_id}"}}')
            end = await running.end("relative", job_id)
            assert isinstance(end, Completed), end
            told = ["<workspace>", str(folder), "beside", "beside", "file"]
            assert msgspec.json.decode(end.result) == told
            await running.publish("jobs.own-loop", f'{{"id":"{job_id}"}}')
            end = await running.end("own-loop", job_id)
            assert isinstance(end, Completed), end
            assert msgspec.json.decode(end.result) == [job_id, str(folder)]
            await running.publish("jobs.shared", f'{{"id":"{job_id}"}}')
            end = await running.end("shared", job_id)
            assert isinstance(end, Completed), end
            assert msgspec.json.decode(end.result) == [str(folder), None]
        assert not (folder / "output").exists(), "nothing is written beside the code"
        assert found(base, "*/*/*") == [], "each workspace is gone"


def found(folder: Path, pattern: str) -> list[Path]:
    return [*folder.glob(pattern)]
