"""`workers.kinds.workspaces`: a directory for each attempt, and none left behind."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from workers.kinds.storage import StorageError
from workers.kinds.workspaces import Workspace, Workspaces, _leave


def below(base: Path, pattern: str) -> list[Path]:
    return sorted(base.glob(pattern))


def swept(workspaces: Workspaces) -> None:
    """Return once it has looked for what others left behind."""
    assert workspaces._home is not None
    workspaces._home.sweeping.join(30)
    assert not workspaces._home.sweeping.is_alive()


def test_nothing_is_made_before_it_is_asked_for(tmp_path: Path) -> None:
    Workspaces(str(tmp_path / "base"))
    assert list(tmp_path.iterdir()) == []


def test_each_has_an_input_and_an_output_of_its_own(tmp_path: Path) -> None:
    workspaces = Workspaces(str(tmp_path / "base"))
    found = [workspaces.make("k.J.1.1") for _ in range(5)]
    assert len({workspace.path for workspace in found}) == 5
    for workspace in found:
        assert sorted(path.name for path in workspace.path.iterdir()) == ["input", "output"]
        assert workspace.path.stat().st_mode & 0o777 == 0o700
    assert len(below(tmp_path, "base/jetray-work-*")) == 1, "one of the process"
    found[0].close(failed=False)
    found[1].close(failed=True)
    assert [workspace.path.exists() for workspace in found] == [False, False, True, True, True]


def test_it_goes_with_the_process_that_made_it(tmp_path: Path) -> None:
    workspaces = Workspaces(str(tmp_path))
    workspaces.make("a")
    swept(workspaces)
    del workspaces
    gc.collect()
    assert below(tmp_path, "*") == []


def test_a_fork_of_the_process_leaves_it_alone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with (tmp_path / "lock").open("wb") as lock:
        _leave(home, lock, [], os.getpid() + 1)
        assert home.exists()
        _leave(home, lock, [], os.getpid())
    assert not home.exists()


MAKES = """
import sys, time
from workers.kinds.workspaces import Workspaces
workspace = Workspaces(sys.argv[1]).make("k.J.1.1")
(workspace.path / "output" / "file").write_text("x")
print(workspace.path, flush=True)
time.sleep(600)
"""


@pytest.mark.slow
def test_what_a_killed_process_left_behind_is_swept_and_what_a_living_one_has_is_not(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", MAKES, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        told = [process.stdout.readline().strip() for process in processes if process.stdout is not None]
        dead, living = map(Path, told)
        processes[0].kill()
        processes[0].wait()
        workspaces = Workspaces(str(tmp_path))
        own = workspaces.make("k.J.1.2")
        swept(workspaces)
        assert not dead.parent.exists()
        assert (living / "output" / "file").exists()
        assert own.path.exists()
    finally:
        for process in processes:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def test_what_was_kept_is_not_swept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    workspaces = Workspaces(str(tmp_path), keep_failed=True)
    failed, succeeded = workspaces.make("k.J.1.1"), workspaces.make("k.J.1.2")
    (failed.path / "output" / "file").write_text("x")
    with caplog.at_level(logging.WARNING):
        failed.close(failed=True)
    succeeded.close(failed=False)
    swept(workspaces)
    del workspaces, failed, succeeded
    gc.collect()
    another = Workspaces(str(tmp_path))
    another.make("k.J.2.1")
    swept(another)
    (kept,) = below(tmp_path, "jetray-kept-*")
    assert kept.name.startswith("jetray-kept-k.J.1.1-")
    assert (kept / "output" / "file").read_text() == "x"
    assert str(kept) in caplog.text


def test_the_longest_of_names_can_be_kept(tmp_path: Path) -> None:
    workspaces = Workspaces(str(tmp_path), keep_failed=True)
    workspaces.make(f"{'k' * 128}.{'J' * 128}.1.1").close(failed=True)
    assert len(below(tmp_path, "jetray-kept-*")) == 1


def test_a_directory_that_somebody_removed_is_made_again(tmp_path: Path) -> None:
    workspaces = Workspaces(str(tmp_path))
    first = workspaces.make("a")
    first.path.parent.rename(tmp_path / "away")
    second = workspaces.make("b")
    assert second.path.exists()
    first.close(failed=False)


@pytest.mark.parametrize("mode", [0o000, 0o500])
def test_what_may_not_be_written_to_is_removed_all_the_same(tmp_path: Path, mode: int) -> None:
    workspace = Workspaces(str(tmp_path)).make("a")
    inner = workspace.path / "output" / "inner"
    inner.mkdir()
    (inner / "file").write_text("x")
    inner.chmod(mode)
    workspace.close(failed=False)
    assert not workspace.path.exists()


def test_a_link_in_its_place_is_removed_and_not_what_it_leads_to(tmp_path: Path) -> None:
    workspace = Workspaces(str(tmp_path / "base")).make("a")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("x")
    workspace.path.rename(tmp_path / "moved")
    workspace.path.symlink_to(tmp_path / "other")
    with workspace.opened() as root:
        assert sorted(os.listdir(root)) == ["input", "output"]
    workspace.close(failed=False)
    assert not workspace.path.is_symlink()
    assert (tmp_path / "other" / "file").exists()


def test_a_base_that_cannot_be_is_an_error_that_does_not_name_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError) as caught:
        Workspaces(str(tmp_path / "file" / "base")).make("a")
    assert str(caught.value) == "no directory can be made under setting workspaces.base: Not a directory"


def test_threads_share_the_directory_of_the_process(tmp_path: Path) -> None:
    workspaces = Workspaces(str(tmp_path))
    made: list[Workspace] = []
    threads = [threading.Thread(target=lambda: made.append(workspaces.make("a"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({workspace.path.parent for workspace in made}) == 1
    assert len({workspace.path for workspace in made}) == 8


def test_whoever_comes_late_finds_it_closed_and_whoever_was_there_is_not_disturbed(tmp_path: Path) -> None:
    workspace = Workspaces(str(tmp_path)).make("a")
    with workspace.opened() as root:
        workspace.close(failed=False)
        others = [os.open(tmp_path, os.O_RDONLY) for _ in range(3)]
        assert os.listdir(root) == [], "it is removed, and nothing else has its descriptor"
        for other in others:
            os.close(other)
    with pytest.raises(StorageError, match="the attempt is over"), workspace.opened():
        pass


def test_its_whereabouts_are_hidden(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "it's a link").symlink_to(tmp_path / "real")
    workspace = Workspaces(str(tmp_path / "it's a link")).make("a")
    for path in (workspace.path, workspace.path.resolve()):
        assert workspace.hidden(f"cannot open {path}/output/x, {path}") == (
            "cannot open <workspace>/output/x, <workspace>"
        )
        missing = workspace.hidden(str(FileNotFoundError(2, "No such file", f"{path}/a")))
        assert "<workspace>/a" in missing
        assert str(tmp_path) not in missing
        assert workspace.hidden_in(f'{{"a":"{path}/b"}}'.encode()) == b'{"a":"<workspace>/b"}'
    assert workspace.hidden("nothing to hide") == "nothing to hide"


def test_one_that_the_job_does_not_know_and_left_empty_is_the_next_ones(tmp_path: Path) -> None:
    workspaces = Workspaces(str(tmp_path), keep_failed=True)
    first = workspaces.make("a")
    first.close(failed=True, is_known=False)
    second = workspaces.make("b")
    assert second.path == first.path
    with pytest.raises(StorageError, match="the attempt is over"), first.opened():
        pass
    second.close(failed=False)
    assert not second.path.exists(), "a job that knows it may have left a thread that writes there"


@pytest.mark.parametrize("name", ["file", "input/file", "output/file", "folder/"])
@pytest.mark.parametrize("stays", [True, False])
def test_one_that_was_written_to_is_nobody_elses(tmp_path: Path, name: str, stays: bool) -> None:
    workspaces = Workspaces(str(tmp_path))
    first = workspaces.make("a")
    path = first.path / name
    if name.endswith("/"):
        path.mkdir()
    else:
        path.write_text("x")
    if not stays:
        path.rmdir() if path.is_dir() else path.unlink()
    first.close(failed=False, is_known=False)
    assert not first.path.exists()
    assert workspaces.make("b").path != first.path


def test_one_that_is_not_in_its_place_is_nobody_elses(tmp_path: Path) -> None:
    workspaces = Workspaces(str(tmp_path))
    first = workspaces.make("a")
    first.path.rename(tmp_path / "away")
    first.close(failed=False, is_known=False)
    assert workspaces.make("b").path.exists()


def test_what_cannot_be_made_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspaces = Workspaces(str(tmp_path))
    home = workspaces.make("a").path.parent
    before, mkdir = (sorted(home.iterdir()), len(os.listdir("/proc/self/fd"))), os.mkdir

    def full(path: Any, *arguments: Any, **options: Any) -> None:
        if path == "output":
            raise OSError(28, "No space left on device")
        mkdir(path, *arguments, **options)

    monkeypatch.setattr(os, "mkdir", full)
    with pytest.raises(StorageError, match="No space left on device"):
        workspaces.make("b")
    assert (sorted(home.iterdir()), len(os.listdir("/proc/self/fd"))) == before


def test_what_cannot_be_kept_leaves_no_empty_directory(tmp_path: Path) -> None:
    workspace = Workspaces(str(tmp_path), keep_failed=True).make("a")
    workspace.path.rename(tmp_path / "away")
    workspace.close(failed=True)
    assert below(tmp_path, "jetray-kept-*") == []


@pytest.mark.parametrize("depth", [100, 3000])
def test_however_deep_it_is_it_is_removed(tmp_path: Path, depth: int) -> None:
    workspace = Workspaces(str(tmp_path)).make("a")
    folder = os.open(workspace.path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=folder)
        inner = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
    os.close(folder)
    try:
        workspace.close(failed=False)
        assert not workspace.path.exists()
    finally:
        # Else pytest fails over it, in its next run.
        subprocess.run(["rm", "-rf", workspace.path], check=True)


@pytest.mark.timeout(60)
def test_what_others_put_where_everybody_may_write_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trap = tmp_path / "jetray-work-trap"
    trap.mkdir()
    os.mkfifo(trap / "owner.lock")
    (trap / "file").write_text("x")
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        workspaces = Workspaces(str(tmp_path))
        workspaces.make("a")
        swept(workspaces)
        assert (trap / "file").exists()
    workspaces = Workspaces(str(tmp_path))
    workspaces.make("a")
    swept(workspaces)
