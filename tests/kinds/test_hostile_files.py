"""Whatever names and links there are: nothing outside of a workspace is read, written or told."""

from __future__ import annotations

import os
import shutil
import tempfile
import unicodedata
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.calls import Tracked, TrackingFailed
from tests.kinds.files import ROOT, Attempt, sha256
from workers import Fail

SECRET: Final = b"a secret of somebody else"
TARGETS: Final = (
    "secret",
    "..",
    "../..",
    "../../..",
    "/",
    "/etc",
    "/etc/passwd",
    "a",
    ".",
    "../input",
    "../../outside",
)

PARTS: Final = st.one_of(
    st.sampled_from(["a", "b", "c.csv", "ü", " ", "-", "*", "?", "[a]", "\\", "%2e%2e", "~", "$HOME", "x" * 255]),
    st.sampled_from(["a\n", "\x1b[31m", "\x7f", "\x85", "caf\udce9", "\udcff", "...", "..\udc80"]),
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8),
)
KINDS: Final = st.sampled_from(["file", "file", "file", "directory", "link", "link outside", "hard link", "pipe"])
ENTRIES: Final = st.lists(
    st.tuples(st.lists(PARTS, min_size=1, max_size=4), KINDS, st.sampled_from(TARGETS), st.binary(max_size=20)),
    max_size=12,
)
NAMES: Final = st.one_of(
    st.lists(
        st.one_of(PARTS, st.sampled_from(["..", ".", "", "input", "output", "link", "\0", "x" * 256])), max_size=5
    ).map("/".join),
    st.sampled_from(["/etc/passwd", "../../outside/secret", "link/secret", "link", "a/" * 100 + "a"]),
)
URIS: Final = st.one_of(
    NAMES.map(lambda name: f"{ROOT}/{name}"),
    st.sampled_from([f"{ROOT}/a", "file:///etc/passwd", f"{ROOT}-other/a", f"{ROOT}/../secret/a", "a::b", "", ROOT]),
)
PATTERNS: Final = st.lists(st.sampled_from(["*", "*.csv", "a", "?", "*/*", "[a", "x*", "*\n*"]), max_size=2)


class Place:
    """A workspace, and beside it what nobody may touch."""

    def __init__(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="hostile-"))
        self.outside = self.base / "outside"
        self.outside.mkdir()
        (self.outside / "secret").write_bytes(SECRET)
        self.attempt = Attempt(self.base / "work")
        self.attempt.store.kept |= {
            f"{ROOT}/a": b"one",
            f"{ROOT}-other/a": SECRET,
            "memory://secret/a": SECRET,
        }
        self.before = dict(self.attempt.store.kept)

    def close(self) -> None:
        """Remove it, and see that only what was in the workspace has changed."""
        try:
            assert {path.name: path.read_bytes() for path in self.outside.iterdir()} == {"secret": SECRET}
            assert {path.name for path in self.base.iterdir()} == {"outside", "work"}
            self.attempt.context.close(failed=False)
            assert not self.attempt.output.parent.exists()
        finally:
            shutil.rmtree(self.base)

    def make(self, parts: list[str], kind: str, target: str, data: bytes) -> None:
        """One entry of the output; names that the system itself does not take are left out."""
        path = os.path.join(os.fsencode(self.attempt.output), *map(os.fsencode, parts))
        with suppress(OSError, ValueError):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if os.path.realpath(os.path.dirname(path)) != os.path.normpath(os.path.dirname(path)):
                return  # through a link that is there by now: what lies there is not the test's to change
            match kind:
                case "file":
                    with open(path, "xb") as file:
                        file.write(data)
                case "directory":
                    os.mkdir(path)
                case "link":
                    os.symlink(os.fsencode(target), path)
                case "link outside":
                    os.symlink(os.fsencode(self.outside / "secret"), path)
                case "hard link":
                    os.link(self.outside / "secret", path)
                case "pipe":
                    os.mkfifo(path)

    @property
    def kept(self) -> dict[str, bytes]:
        """What was kept of it."""
        return {uri: data for uri, data in self.attempt.store.kept.items() if uri not in self.before}


def tracks(entries: list[Any], include: list[str], exclude: list[str]) -> None:
    place = Place()
    try:
        for entry in entries:
            place.make(*entry)
        commit = place.attempt.context.track(include=include or ["*"], exclude=exclude)
        (told,) = place.attempt.heard.frames
        assert SECRET not in b"".join(place.kept.values())
        assert b"hostile-" not in msgspec.msgpack.encode(told), "the whereabouts of the workspace are told"
        if commit is None:
            assert isinstance(told, TrackingFailed)
            assert told.files
            assert place.kept == {}
        else:
            assert isinstance(told, Tracked)
            assert isinstance(told.files, list)
            for file in told.files:
                path = place.attempt.output / file.name
                assert path.resolve().is_relative_to(place.attempt.output.resolve())
                assert not path.is_symlink()
                assert sha256(path.read_bytes()) == file.sha256
                assert not any(unicodedata.category(character) in ("Cc", "Cs") for character in file.name)
            if not (include or exclude):
                there = sum(len(files) for _, _, files in os.walk(place.attempt.output))
                assert len(told.files) == there
    finally:
        place.close()


def stages(inputs: dict[str, str], links: list[str]) -> None:
    place = Place()
    try:
        staged = place.attempt.context.workspace / "input"
        for name in links:
            with suppress(OSError, ValueError):
                (staged / name).symlink_to(place.outside)
        try:
            place.attempt.context.stage(inputs)
            said = ""
        except Fail as failure:
            said = f"{failure.reason}: {failure}"
        assert "hostile-" not in said.encode().decode()
        for name, uri in () if said else inputs.items():
            assert uri == f"{ROOT}/a"
            path = staged / name
            assert path.read_bytes() == b"one"
            assert path.resolve().is_relative_to(staged.resolve())
        for folder, _, files in os.walk(place.attempt.context.workspace):
            for name in files:
                path = Path(folder, name)
                assert path.is_symlink() or path.read_bytes() != SECRET
    finally:
        place.close()


LINKS: Final = st.lists(st.sampled_from(["link", "a", "b", "input"]), max_size=2, unique=True)


@pytest.mark.slow
@given(entries=ENTRIES, include=PATTERNS, exclude=PATTERNS)
def test_nothing_outside_is_ever_tracked(entries: list[Any], include: list[str], exclude: list[str]) -> None:
    tracks(entries, include, exclude)


@pytest.mark.slow
@given(inputs=st.dictionaries(NAMES, URIS, max_size=4), links=LINKS)
def test_nothing_is_ever_staged_outside(inputs: dict[str, str], links: list[str]) -> None:
    stages(inputs, links)


@pytest.mark.proof
@pytest.mark.timeout(600)
@given(entries=ENTRIES, include=PATTERNS, exclude=PATTERNS)
@settings(max_examples=5_000, deadline=None)
def test_nothing_outside_is_tracked_in_5000_trees(entries: list[Any], include: list[str], exclude: list[str]) -> None:
    tracks(entries, include, exclude)


@pytest.mark.proof
@pytest.mark.timeout(600)
@given(inputs=st.dictionaries(NAMES, URIS, max_size=4), links=LINKS)
@settings(max_examples=5_000, deadline=None)
def test_nothing_is_staged_outside_by_5000_names(inputs: dict[str, str], links: list[str]) -> None:
    stages(inputs, links)
