"""What is declared of the lifecycle is what it does, and what the docs show."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.core.diagram import document
from tests.core.explore import explore
from workers.core.job import Phase
from workers.core.lifecycle import TABLE
from workers.core.outcomes import OUTCOMES, Outcome

DOCUMENT = Path(__file__).parents[2] / "docs" / "lifecycle.md"


@pytest.fixture(scope="module")
def found() -> dict[tuple[Phase, type], set[Outcome]]:
    """What comes of every transition when everything is tried."""
    return explore()


def test_outcomes_are_declared_of_every_transition() -> None:
    assert list(OUTCOMES) == list(TABLE), "workers/core/outcomes.py has the rows of lifecycle.TABLE, in its order"


@pytest.mark.parametrize("row", OUTCOMES, ids=lambda row: f"{row[0].value}-{row[1].__name__}")
def test_what_comes_about_is_what_is_declared(
    row: tuple[Phase, type], found: dict[tuple[Phase, type], set[Outcome]]
) -> None:
    seen, declared = found.get(row, set()), OUTCOMES[row]
    assert seen - declared == set(), "comes about, and OUTCOMES does not say so"
    assert declared - seen == set(), "is declared in OUTCOMES, and never comes about"


def test_no_other_transition_is_made(found: dict[tuple[Phase, type], set[Outcome]]) -> None:
    assert set(found) == set(TABLE)


def test_a_settled_job_knows_no_way_on() -> None:
    assert not any(phase is Phase.SETTLED for phase, _ in TABLE)


def test_the_document_is_what_the_code_gives() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == document(), (
        "docs/lifecycle.md is not what the code gives: make diagram"
    )
