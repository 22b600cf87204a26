"""`JobContext.stage`: inputs of a job's own, from where it may have them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from infra.store.base import StoreError
from infra.store.files import FileStores
from infra.store.memory import MemoryFiles, MemoryStore
from tests.kinds.files import ROOT, Attempt
from workers import Fail
from workers.hosting import Depot
from workers.kinds.storage import StorageError


@pytest.fixture
def attempt(tmp_path: Path) -> Attempt:
    attempt = Attempt(tmp_path)
    attempt.store.kept |= {f"{ROOT}/a": b"one", f"{ROOT}/b/c": b"two", "memory://elsewhere/a": b"secret"}
    return attempt


def test_inputs_are_copied_to_their_names_and_read_only(attempt: Attempt) -> None:
    found = attempt.context.stage({"prices.csv": f"{ROOT}/a", "deep/er/b": f"{ROOT}/b/c"})
    assert found == attempt.context.workspace / "input"
    assert (found / "prices.csv").read_bytes() == b"one"
    assert (found / "deep" / "er" / "b").read_bytes() == b"two"
    for name in ("prices.csv", "deep/er/b"):
        assert stat.S_IMODE((found / name).stat().st_mode) == 0o444
    assert attempt.context.stage({}) == found


def test_who_edits_an_input_edits_a_copy(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_bytes(b"original")
    uri = f"file://{source}/a"
    one, other = (
        Attempt(tmp_path / "base", storage=Depot(f"file://{tmp_path}/root", [f"file://{source}"], FileStores().open))
        for _ in range(2)
    )
    files = [attempt.context.stage({"a": uri}) / "a" for attempt in (one, other)]
    files[0].chmod(0o644)
    with files[0].open("r+b") as file:
        file.write(b"spoilt!!")
    assert files[1].read_bytes() == b"original"
    assert (source / "a").read_bytes() == b"original"
    assert len({path.stat().st_ino for path in (*files, source / "a")}) == 3


def test_two_attempts_may_have_the_same_names(tmp_path: Path) -> None:
    one, other = Attempt(tmp_path), Attempt(tmp_path)
    for attempt, data in ((one, b"1"), (other, b"2")):
        attempt.store.kept[f"{ROOT}/a"] = data
        attempt.context.stage({"a": f"{ROOT}/a"})
        (attempt.output / "same").write_bytes(data)
    assert (one.context.workspace / "input" / "a").read_bytes() == b"1"
    assert one.tracked().files != other.tracked().files


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("", "is empty"),
        ("/etc/passwd", "is absolute"),
        ("..", "has a part that is empty, . or .."),
        ("a/../../b", "has a part that is empty, . or .."),
        ("a//b", "has a part that is empty, . or .."),
        ("./a", "has a part that is empty, . or .."),
        ("a/", "has a part that is empty, . or .."),
        ("a\nb", "has control characters"),
        ("a\0b", "has control characters"),
        ("\udcff", "is not UTF-8"),
        ("x" * 256, "is too long"),
        ("x/" * 64 + "x", "is too long"),
        (3, "is no text"),
    ],
)
def test_a_name_that_cannot_be_is_named(attempt: Attempt, name: str, wrong: str) -> None:
    with pytest.raises(Fail, match="cannot be staged: its name") as caught:
        attempt.context.stage({"fine": f"{ROOT}/a", name: f"{ROOT}/a"})
    assert caught.value.reason == "user"
    assert str(caught.value).endswith(f"cannot be staged: its name {wrong}")
    str(caught.value).encode()
    assert list((attempt.context.workspace / "input").iterdir()) == [], "nothing is copied before all were looked at"


@pytest.mark.parametrize(
    ("uri", "reason", "words"),
    [
        ("memory://elsewhere/a", "config", "is not below memory://root (see setting workspaces.inputs)"),
        ("memory://rootless/a", "config", "is not below memory://root"),
        ("file:///etc/passwd", "config", "is not below memory://root"),
        (f"{ROOT}/../elsewhere/a", "config", "has a part that is empty, . or .."),
        ("a", "config", "is no URI"),
        (f"{ROOT}/missing", "storage", "there is no memory://root/missing"),
    ],
)
def test_what_may_not_be_staged_or_is_not_there_is_told(attempt: Attempt, uri: str, reason: str, words: str) -> None:
    with pytest.raises(Fail) as caught:
        attempt.context.stage({"data/a": uri})
    assert caught.value.reason == reason
    assert str(caught.value).startswith("input 'data/a' cannot be staged: ")
    assert words in str(caught.value)
    assert not (attempt.context.workspace / "input" / "data" / "a").exists()


def test_what_else_the_operator_allows_can_be_staged(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, inputs=["memory://elsewhere"])
    attempt.store.kept |= {"memory://elsewhere/a": b"x", f"{ROOT}/a": b"y"}
    found = attempt.context.stage({"x": "memory://elsewhere/a", "y": f"{ROOT}/a"})
    assert [(found / name).read_bytes() for name in "xy"] == [b"x", b"y"]


def test_a_name_is_staged_once(attempt: Attempt) -> None:
    attempt.context.stage({"a": f"{ROOT}/a"})
    with pytest.raises(Fail, match="input 'a' cannot be staged: there is a file of that name already"):
        attempt.context.stage({"a": f"{ROOT}/b/c"})
    with pytest.raises(Fail, match="input 'a/b' cannot be staged: a part of its name is no directory"):
        attempt.context.stage({"a/b": f"{ROOT}/b/c"})


def test_where_there_is_no_room_another_attempt_may_fare_better(
    attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt.context.stage({})
    monkeypatch.setattr(os, "mkdir", _full)
    with pytest.raises(StorageError, match=r"input 'b/a' cannot be staged: No space"):
        attempt.context.stage({"b/a": f"{ROOT}/a"})
    monkeypatch.setattr(os, "dup", _full)
    with pytest.raises(StorageError, match="cannot be opened: No space"):
        attempt.context.stage({"a": f"{ROOT}/a"})


def _full(*arguments: object, **options: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("name", ["input", "input/a"])
def test_nothing_is_staged_through_a_link(attempt: Attempt, tmp_path: Path, name: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = attempt.context.workspace / name
    if name == "input":
        link.rmdir()
    link.symlink_to(elsewhere)
    with pytest.raises(Fail, match="a part of its name is no directory"):
        attempt.context.stage({"a/b": f"{ROOT}/a"})
    assert list(elsewhere.iterdir()) == []


def test_where_a_workspace_was_put_away_nothing_is_staged_in_what_has_its_place(
    attempt: Attempt, tmp_path: Path
) -> None:
    workspace, elsewhere = attempt.context.workspace, tmp_path / "elsewhere"
    (elsewhere / "input").mkdir(parents=True)
    workspace.rename(tmp_path / "away")
    workspace.symlink_to(elsewhere)
    attempt.context.stage({"a": f"{ROOT}/a"})
    assert os.listdir(elsewhere / "input") == []
    assert (tmp_path / "away" / "input" / "a").read_bytes() == b"one"


class Stumbling(MemoryFiles):
    """A store that does not answer at first."""

    def __init__(self, store: MemoryStore, root: str, failures: int) -> None:
        super().__init__(store, root)
        self.left = failures

    def fetch(self, uri: str, into: object) -> None:
        self.left -= 1
        if self.left >= 0:
            into.write(b"half of it, and longer than that")  # type: ignore[attr-defined]
            raise StoreError("not now")
        super().fetch(uri, into)  # type: ignore[arg-type]


@pytest.mark.parametrize(("failures", "patience_s", "comes"), [(1, 5.0, True), (1, 0.0, False)])
def test_a_store_that_does_not_answer_is_asked_again_for_a_while(
    tmp_path: Path, failures: int, patience_s: float, comes: bool
) -> None:
    store = MemoryStore()
    store.kept[f"{ROOT}/a"] = b"whole"
    stumbling = Stumbling(store, ROOT, failures)
    attempt = Attempt(tmp_path, storage=Depot(ROOT, [], lambda root: stumbling, patience_s=patience_s))
    if comes:
        assert (attempt.context.stage({"a": f"{ROOT}/a"}) / "a").read_bytes() == b"whole"
    else:
        with pytest.raises(StorageError, match="not now"):
            attempt.context.stage({"a": f"{ROOT}/a"})
        assert not (attempt.context.workspace / "input" / "a").exists()
