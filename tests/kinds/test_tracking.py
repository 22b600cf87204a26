"""`JobContext.track`: the files of an attempt under one commit, or why not."""

from __future__ import annotations

import hashlib
import io
import os
import random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import msgspec
import pytest

from contracts.events import EVENT_LIMIT, Moved, TrackedFile
from tests.kinds.files import ROOT, Attempt, sha256
from workers import Fail
from workers.kinds import survey, tracking
from workers.kinds.storage import StorageError
from workers.kinds.survey import Selection, Survey, _Walk
from workers.kinds.survey import survey as looked_through


@pytest.fixture
def attempt(tmp_path: Path) -> Attempt:
    return Attempt(tmp_path)


def write(folder: Path, **files: bytes) -> None:
    for name, data in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


# --- what is tracked


def test_files_are_kept_by_what_they_hold_and_listed_under_one_commit(attempt: Attempt) -> None:
    write(attempt.output, a_csv=b"1", plots__b_png=b"2", same=b"1")
    told = attempt.tracked()
    assert told.files == [
        TrackedFile(name="a.csv", bytes=1, sha256=sha256(b"1")),
        TrackedFile(name="plots/b.png", bytes=1, sha256=sha256(b"2")),
        TrackedFile(name="same", bytes=1, sha256=sha256(b"1")),
    ]
    assert len([name for name in attempt.kept if name.startswith("files/sha256/")]) == 2


def test_a_commit_tells_what_the_files_are_and_nothing_else(tmp_path: Path) -> None:
    commits = []
    for order in ("abc", "cba", "bca"):
        attempt = Attempt(tmp_path)
        for name in order:
            write(attempt.output, **{name: name.encode()})
        commits.append(attempt.tracked().commit)
    assert len(set(commits)) == 1
    write(attempt.output, a=b"other")
    assert attempt.tracked().commit not in commits
    (attempt.output / "a").write_bytes(b"a")
    assert attempt.tracked().commit in commits
    (attempt.output / "a").rename(attempt.output / "d")
    assert attempt.tracked().commit not in commits


def test_the_bytes_of_the_list_are_as_they_were(attempt: Attempt) -> None:
    write(attempt.output, a_csv=b"1")
    commit = attempt.tracked().commit
    assert attempt.kept[f"files/commits/{commit}.json"] == (
        b'[{"bytes":1,"name":"a.csv","sha256":"6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"}]'
    )


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["a.csv", "a.log", "plots/a.png", "plots/old/b.png"]),
        ({"include": ["*.png"]}, ["plots/a.png", "plots/old/b.png"]),
        ({"include": ["plots/*", "*.csv"]}, ["a.csv", "plots/a.png", "plots/old/b.png"]),
        ({"exclude": ["*.log", "plots/old/*"]}, ["a.csv", "plots/a.png"]),
        ({"include": ["a.???"], "exclude": ["*.log"]}, ["a.csv"]),
        ({"where": "output/plots"}, ["a.png", "old/b.png"]),
        ({"include": []}, []),
        ({"include": ["*.CSV"]}, []),
    ],
)
def test_patterns_say_which(attempt: Attempt, options: dict[str, Any], names: list[str]) -> None:
    write(attempt.output, a_csv=b"1", a_log=b"2", plots__a_png=b"3", plots__old__b_png=b"4")
    files = attempt.tracked(**options).files
    assert isinstance(files, list)
    assert [file.name for file in files] == names


def test_tracked_twice_is_told_twice_and_kept_once(attempt: Attempt) -> None:
    write(attempt.output, a=b"1")
    first = attempt.tracked()
    write(attempt.output, b=b"2")
    assert attempt.tracked() != first
    assert len(attempt.heard.frames) == 2


def test_a_file_that_is_larger_than_memory_should_hold_is_kept_whole(attempt: Attempt) -> None:
    data = random.Random(7).randbytes(3 * 1024 * 1024 + 1)
    write(attempt.output, large=data, empty=b"")
    files = attempt.tracked().files
    assert isinstance(files, list)
    assert [file.bytes for file in files] == [0, len(data)]
    assert [path.name for path in attempt.context.workspace.parent.iterdir() if path.name != "owner.lock"] == [
        attempt.context.workspace.name
    ], "no copy is left behind"


def test_a_list_that_no_event_holds_is_told_by_reference(attempt: Attempt) -> None:
    number = 100
    for index in range(number):
        write(attempt.output, **{f"{index:03}{'x' * 150}": b"1"})
    assert isinstance(attempt.tracked().files, list)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracking, "LIST_LIMIT", 10_000)
        told = attempt.tracked()
        assert told.files == Moved(artifact=f"{ROOT}/files/commits/{told.commit}.json", sha256=told.commit)
        (attempt.output / "link").symlink_to("a")
        for index in range(number):
            (attempt.output / f"link-{index:03}{'x' * 150}").symlink_to("a")
        commits = {name for name in attempt.kept if name.startswith("files/commits/")}
        assert attempt.context.track() is None
    assert {name for name in attempt.kept if name.startswith("files/commits/")} == commits
    refused: Any = attempt.heard.frames[-1]
    assert isinstance(refused.files, Moved)
    names = msgspec.json.decode(attempt.store.kept[refused.files.artifact])
    assert len(names) == number + 1
    assert sha256(attempt.store.kept[refused.files.artifact]) == refused.files.sha256
    assert tracking.LIST_LIMIT < EVENT_LIMIT


# --- what is refused


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as it, pytest.MonkeyPatch.context() as patch:
        patch.chdir(path.parent)  # the path of a socket must be short
        it.bind(path.name)


def hard_link(path: Path) -> None:
    secret = path.parents[2] / "secret"
    secret.write_text("secret")
    path.hardlink_to(secret)


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "link": (lambda path: path.symlink_to("a"), "is a link"),
    "link to a directory": (lambda path: path.symlink_to(".."), "is a link"),
    "dangling": (lambda path: path.symlink_to("nothing"), "is a link"),
    "pipe": (pipe, "is a pipe"),
    "socket": (listening, "is a socket"),
    "hard link": (hard_link, "is a hard link to a file elsewhere"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_file_of_its_own_fails_the_set(attempt: Attempt, what: str) -> None:
    write(attempt.output, a=b"1", z=b"2")
    make, why = REFUSED[what]
    make(attempt.output / "odd one")
    told = attempt.refused()
    assert told.files == ["odd one"]
    assert (told.error.reason, told.error.type) == ("user", "Untrackable")
    assert told.error.message == f"odd one {why}"
    assert attempt.kept == {}, "a set is complete or is not"
    assert isinstance(attempt.tracked(exclude=["odd*"]).files, list), "what is not asked for does not matter"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_device_is_not_opened(attempt: Attempt) -> None:
    os.mknod(attempt.output / "zero", 0o666 | 0o020000, os.makedev(1, 5))
    assert attempt.refused().error.message == "zero is a device"


@pytest.mark.parametrize(
    ("name", "shown", "why"),
    [
        (b"a\nb", "a\\nb", "has a name that has control characters"),
        (b"\x1b[2J", "\\x1b[2J", "has a name that has control characters"),
        (b"caf\xe9", "caf\\xe9", "has a name that is not UTF-8"),
        ("\x85".encode(), "\\x85", "has a name that has control characters"),
    ],
)
def test_a_name_that_no_event_should_hold_fails_the_set(attempt: Attempt, name: bytes, shown: str, why: str) -> None:
    for folder in (b"", b"folder\x07/"):
        path = os.fsencode(attempt.output) + b"/" + folder
        os.makedirs(path, exist_ok=True)
        with open(path + name, "wb") as file:
            file.write(b"1")
    told = attempt.refused()
    assert isinstance(told.files, list)
    assert set(told.files) == {shown, f"folder\\x07/{shown}"}
    assert told.error.message.endswith(f"{shown} {why}, and 1 more cannot be tracked")
    msgspec.msgpack.encode(told)


def test_hard_links_among_the_files_are_files(attempt: Attempt) -> None:
    write(attempt.output, a=b"1", deep__b=b"2")
    (attempt.output / "c").hardlink_to(attempt.output / "a")
    files = attempt.tracked().files
    assert isinstance(files, list)
    assert [file.name for file in files] == ["a", "c", "deep/b"]


def test_more_than_max_bytes_is_too_large(attempt: Attempt) -> None:
    write(attempt.output, a=b"123", b=b"456")
    told = attempt.refused(max_bytes=5)
    assert (told.error.reason, told.error.message) == ("too_large", "the files have 6 bytes, and max_bytes is 5")
    attempt.refused(max_bytes=0)
    assert attempt.kept == {}
    attempt.tracked(max_bytes=6)


def test_too_many_files_are_too_many(attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "MOST_FILES", 2)
    write(attempt.output, a=b"1", b=b"1", c=b"1")
    told = attempt.refused()
    assert (told.error.reason, told.error.message) == (
        "too_large",
        "there are more than the 2 files that may be tracked at once",
    )


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda path: path.symlink_to("a")])
def test_no_more_is_looked_at_than_may_be_tracked(
    attempt: Attempt, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]
) -> None:
    monkeypatch.setattr(tracking, "MOST_FILES", 5)
    monkeypatch.setattr(survey, "DEEPEST", 2)
    (attempt.output / "deep").mkdir()
    for number in range(50):
        make(attempt.output / "deep" / str(number))
    looked: list[Any] = []
    stat_ = os.stat

    def looking(*arguments: Any, **options: Any) -> os.stat_result:
        looked.append(arguments)
        return stat_(*arguments, **options)

    monkeypatch.setattr(os, "stat", looking)
    told = attempt.refused()
    assert told.error.reason == "too_large"
    assert len(looked) < 10


def test_what_is_nested_too_deep_is_refused(attempt: Attempt) -> None:
    deepest = attempt.output.joinpath(*["d"] * 63)
    deepest.mkdir(parents=True)
    (deepest / "file").write_bytes(b"1")
    attempt.tracked()
    (deepest / "d").mkdir()
    told = attempt.context.track()
    assert told is None
    refused: Any = attempt.heard.frames[-1]
    assert refused.error.message.endswith("d is nested too deep")


def test_what_is_mounted_there_is_refused(attempt: Attempt) -> None:
    write(attempt.output, folder__a=b"1")
    walk = _Walk(Selection(include=("*",), exclude=()), device=-1, most=10)
    output = os.open(attempt.output, os.O_RDONLY)
    walk.through(output, "")
    os.close(output)
    assert walk.survey == Survey(unfit={"folder": "is of another file system"})


@pytest.mark.parametrize("where", ["nowhere", "output/a", "output/link"])
def test_where_nothing_can_be_tracked_is_told(attempt: Attempt, where: str) -> None:
    write(attempt.output, a=b"1")
    (attempt.output / "link").symlink_to("/")
    told = attempt.refused(where=where)
    assert told.error.message.startswith(f"{where} cannot be read: ")
    assert str(attempt.output) not in told.error.message


@pytest.mark.parametrize("where", ["", "/", "/etc", "..", "output/../..", "output/", "a\0b"])
def test_a_where_that_leads_out_is_an_error_of_the_kind(attempt: Attempt, where: str) -> None:
    with pytest.raises(ValueError, match="track: where must be a directory of the workspace, and "):
        attempt.context.track(where=where)
    assert attempt.heard.frames == []


def test_patterns_that_are_one_text_are_an_error_of_the_kind(attempt: Attempt) -> None:
    with pytest.raises(TypeError, match=r"track: include must be a list of patterns, as \['\*.csv'\], not '\*.csv'"):
        attempt.context.track(include="*.csv")
    with pytest.raises(TypeError, match="track: exclude"):
        attempt.context.track(exclude=[1])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="track: max_bytes must be a whole number, 0 or more, not -1"):
        attempt.context.track(max_bytes=-1)


# --- what changes meanwhile


SECRET = b"a secret of somebody else"


def swapped_for_a_link(file: Path, outside: Path) -> None:
    file.unlink()
    file.symlink_to(outside / "secret")


def swapped_for_a_pipe(file: Path, outside: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def swapped_for_another_file(file: Path, outside: Path) -> None:
    (outside / "secret").rename(file)


def swapped_for_a_hard_link(file: Path, outside: Path) -> None:
    file.unlink()
    file.hardlink_to(outside / "secret")


def directory_swapped_for_a_link(file: Path, outside: Path) -> None:
    (outside / file.name).write_bytes(SECRET)
    file.parent.rename(file.parent.with_name("away"))
    file.parent.symlink_to(outside)


def rewritten_in_place(file: Path, outside: Path) -> None:
    was = file.stat()
    file.write_bytes(b"X" * was.st_size)
    os.utime(file, ns=(was.st_atime_ns, was.st_mtime_ns))


def grown(file: Path, outside: Path) -> None:
    with file.open("ab") as more:
        more.write(b"more")


def gone(file: Path, outside: Path) -> None:
    file.unlink()


SWAPS = [
    swapped_for_a_link,
    swapped_for_a_pipe,
    swapped_for_another_file,
    swapped_for_a_hard_link,
    directory_swapped_for_a_link,
    rewritten_in_place,
    grown,
    gone,
]


@pytest.mark.parametrize("moment", ["before it is opened", "before it is read", "while it is read"])
@pytest.mark.parametrize("swap", SWAPS)
def test_what_is_swapped_is_refused_and_never_read(
    attempt: Attempt,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    swap: Callable[[Path, Path], None],
    moment: str,
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(SECRET)
    write(attempt.output, folder__file=b"a file of the job's own", other=b"x")
    file, secret = attempt.output / "folder" / "file", (outside / "secret").stat()
    left = [swap]

    def strike() -> None:
        if left:
            left.pop()(file, outside)

    open_, read, survey = os.open, os.read, looked_through

    def surveyed(*arguments: Any, **options: Any) -> Any:
        found = survey(*arguments, **options)
        if moment == "before it is opened":
            strike()
        return found

    def opened(path: Any, *arguments: Any, **options: Any) -> int:
        descriptor = open_(path, *arguments, **options)
        assert swap is not swapped_for_a_link or not os.path.samestat(os.fstat(descriptor), secret)
        if moment == "before it is read" and path == "file":
            strike()
        return descriptor

    def reading(descriptor: int, size: int) -> bytes:
        data = read(descriptor, size)
        assert SECRET not in data
        if moment == "while it is read" and data:
            strike()
        return data

    monkeypatch.setattr(tracking, "survey", surveyed)
    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(os, "read", reading)
    commit = attempt.context.track()
    monkeypatch.undo()
    assert left == [], "the test strikes"
    assert all(SECRET not in data for data in attempt.kept.values())
    told: Any = attempt.heard.frames[-1]
    if swap is directory_swapped_for_a_link and moment != "before it is opened":
        # The very file that was found is read through the directory that was found.
        assert commit is not None
        return
    assert commit is None
    assert told.files == ["folder/file"]
    assert told.error.message.startswith("folder/file changed ")
    assert not any(name.startswith("files/commits/") for name in attempt.kept)


# --- storage that fails


class Broken:
    """A storage that takes so many files, and then no more."""

    def __init__(self, error: Exception, takes: int = 0) -> None:
        self.error = error
        self.left = takes
        self.kept: list[str] = []

    def keep(self, name: str, data: IO[bytes]) -> str:
        if not self.left:
            raise self.error
        self.left -= 1
        self.kept.append(name)
        data.seek(0)
        assert hashlib.sha256(data.read()).hexdigest() in name
        return f"{ROOT}/{name}"

    def fetch(self, uri: str, into: IO[bytes]) -> None:
        raise self.error


@pytest.mark.parametrize("takes", [0, 1, 2])
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (StorageError("it is not there"), "storage"),
        (Fail("no s3fs", reason="config"), "config"),
    ],
)
def test_a_storage_that_fails_fails_no_job(tmp_path: Path, error: Exception, reason: str, takes: int) -> None:
    broken = Broken(error, takes)
    attempt = Attempt(tmp_path, storage=broken)
    write(attempt.output, a=b"1", b=b"2")
    told = attempt.refused()
    assert (told.error.reason, told.error.message, told.files) == (reason, str(error), [])
    assert len(broken.kept) == takes


def test_where_even_the_list_of_the_refused_is_not_taken_the_first_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "LIST_LIMIT", 1_000)
    attempt = Attempt(tmp_path, storage=Broken(StorageError("gone")))
    for index in range(300):
        (attempt.output / f"{index:03}").symlink_to("a")
    assert attempt.refused().files == [f"{index:03}" for index in range(100)]


def test_where_no_copy_finds_room_is_told(attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(tracking, "SpooledTemporaryFile", lambda **options: Full())
    write(attempt.output, a=b"1")
    told = attempt.refused()
    assert (told.error.reason, told.error.message) == (
        "storage",
        "there is no room for a copy: No space left on device",
    )


def test_once_the_attempt_is_over_nothing_is_tracked(attempt: Attempt) -> None:
    attempt.context.close(failed=False)
    assert attempt.context.track() is None
    with pytest.raises(StorageError, match="the attempt is over"):
        attempt.context.stage({})
