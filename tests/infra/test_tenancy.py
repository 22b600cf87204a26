"""`infra.pool.tenancy`: what happens around a call, with marks and guardians that only take notes."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from contracts.calls import Call, Frame, Returned
from infra.pool import birthmark, guardian, tenancy
from infra.pool.birthmark import Birthmark
from infra.pool.tenancy import Tenancy
from tests.conformance.pool.worlds import call

pytestmark = pytest.mark.anyio

MARK = 12345


class Notes(list[str]):
    """What happened, in order; also the host, whose jobs start as many processes as `leaves` says."""

    leaves = 0
    newest: int | None = 100

    def guard(self, mark: Birthmark) -> bool:
        if self.newest is not None:
            self.newest += 2
        return True

    def prepare(self, call: Call) -> None:
        self.append(f"prepare {call.kind}")

    async def execute(self, call: Call, send: Callable[[Frame], None]) -> Returned:
        self.append("execute")
        if self.newest is not None:
            self.newest += self.leaves
        return Returned(result=b"1")

    def cancel(self, job: str) -> bool:
        raise AssertionError

    def wear(self, mark: Birthmark, job: int = 0) -> bool:
        assert mark.number == MARK
        self.append(f"wear {job}")
        return True

    def carriers(self, mark: Birthmark, job: int, *, among: range | None = None) -> list[int]:
        self.append(f"look for {job}" + ("" if among is None else f" among {len(among)}"))
        return [7] * self.leaves

    def end(self, mark: Birthmark, job: int, *, spare: int, within_s: float) -> tuple[int, int]:
        assert spare == os.getpid()
        self.append(f"end {job}")
        return self.leaves, 0


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> Notes:
    notes = Notes()
    monkeypatch.setattr(guardian, "start", notes.guard)
    monkeypatch.setattr(birthmark, "supported", lambda: True)
    monkeypatch.setattr(Birthmark, "wear", lambda mark, job=0: notes.wear(mark, job))
    monkeypatch.setattr(Birthmark, "carriers", lambda mark, job, among=None: notes.carriers(mark, job, among=among))
    monkeypatch.setattr(birthmark, "end", notes.end)
    monkeypatch.setattr(birthmark, "last_pid", lambda: notes.newest)
    return notes


async def run(notes: Notes, place: Tenancy, *, exclusive: bool = True) -> list[str]:
    assert await place.execute(notes, call("k", exclusive=exclusive), lambda frame: None) == Returned(result=b"1")
    noted = list(notes)
    notes.clear()
    return noted


async def test_each_exclusive_job_has_a_mark_of_its_own(notes: Notes) -> None:
    place = Tenancy(MARK)
    assert await run(notes, place) == ["prepare k", "wear 1", "execute", "wear 0"]
    assert await run(notes, place) == ["prepare k", "wear 2", "execute", "wear 0"]


async def test_what_it_left_is_ended(notes: Notes) -> None:
    notes.leaves = 3
    noted = await run(notes, Tenancy(MARK))
    assert noted == ["prepare k", "wear 1", "execute", "wear 0", "look for 1 among 3", "end 1"]


async def test_a_system_that_does_not_count_is_looked_through(notes: Notes) -> None:
    notes.newest = None
    assert await run(notes, Tenancy(MARK)) == ["prepare k", "wear 1", "execute", "wear 0", "look for 1"]


async def test_so_is_one_whose_count_stands_still(notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(birthmark, "last_pid", lambda: 100)
    assert await run(notes, Tenancy(MARK)) == ["prepare k", "wear 1", "execute", "wear 0", "look for 1"]


async def test_after_a_long_job_all_processes_are_looked_through(notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenancy, "SHORT_S", -1.0)
    assert (await run(notes, Tenancy(MARK)))[-1] == "look for 1"


async def test_jobs_that_share_an_actor_are_left_alone(notes: Notes) -> None:
    assert await run(notes, Tenancy(MARK), exclusive=False) == ["execute"]


async def test_where_there_are_no_means_jobs_just_run(notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guardian, "start", lambda mark: False)
    assert await run(notes, Tenancy(MARK)) == ["execute"]
