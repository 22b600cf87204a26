"""The gate fits the source, and notices."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.mutation import __main__ as gate
from tests.mutation.guard import Edit, Guard
from tests.mutation.guards import GUARDS
from tests.mutation.hunt import false_alarm, hunt
from tests.mutation.mutant import ROOT, Stale, edited, mutant
from tests.mutation.trial import A_SEED_S


def _guard(*edits: Edit, seed: int = 0) -> Guard:
    return Guard("made up", "nothing", edits, seed)


@pytest.mark.parametrize("guard", GUARDS, ids=[guard.name for guard in GUARDS])
def test_each_guard_stands_in_the_source_and_can_be_taken_away(guard: Guard) -> None:
    for file, text in edited(guard).items():
        assert text != (ROOT / file).read_text()
        compile(text, file, "exec")


def test_names_are_told_apart() -> None:
    assert len({guard.name for guard in GUARDS}) == len(GUARDS)
    assert all(guard.protects and guard.edits for guard in GUARDS)


@pytest.mark.parametrize(("before", "times"), [("no such text", 0), ("import", 2)])
def test_a_guard_whose_text_is_gone_or_ambiguous_is_named(
    before: str, times: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    guard = _guard(Edit("workers/core/retry.py", before, ""))
    with pytest.raises(Stale, match="made up"):
        edited(guard)
    monkeypatch.setattr(gate, "GUARDS", (guard,))
    assert gate.main([]) == 2
    told = capsys.readouterr().out
    found = re.search(r"stands (\d+) times in workers/core/retry.py", told)
    assert found is not None
    assert min(2, int(found[1])) == times


def test_a_mutant_is_the_source_without_the_guard_and_nothing_else() -> None:
    guard = GUARDS[0]
    with mutant(guard) as where:
        for file, text in edited(guard).items():
            assert (where / file).read_text() == text
        untouched = Path("contracts/events.py")
        assert (where / untouched).read_text() == (ROOT / untouched).read_text()
    assert not where.exists()


@pytest.mark.slow
def test_a_guard_that_is_gone_is_missed() -> None:
    guard = GUARDS[0]
    finding = hunt(guard, seeds=1)
    assert (finding.seed, finding.tried) == (guard.seed, 1)
    assert finding.what
    assert false_alarm([guard.seed]) == ""


@pytest.mark.slow
def test_what_guards_nothing_is_not_missed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    harmless = _guard(Edit("workers/core/log.py", "EMPTY = LogView()", "EMPTY = LogView(sequence=0)"))
    monkeypatch.setattr(gate, "GUARDS", (harmless,))
    assert gate.main(["--seeds", "2", "--jobs", "1"]) == 1
    assert "made up" in capsys.readouterr().out


@pytest.mark.slow
def test_a_history_that_does_not_end_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    limit, begins = f"A_SEED_S: Final = {A_SEED_S}", "    tail = log.tail\n    if tail is None:\n"
    endless = _guard(
        Edit("tests/mutation/trial.py", limit, "A_SEED_S: Final = 1"),
        Edit("workers/core/start.py", begins, f"    while True:\n        pass\n{begins}"),
    )
    finding = hunt(endless, seeds=1)
    assert (finding.seed, finding.what) == (0, "the history did not end")
