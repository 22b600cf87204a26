"""Each of the seventeen is really emitted, and would be missed."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from rich.console import Console

from tests.seventeen.proof import Played, judge, play
from tests.seventeen.rows import ROWS, Row
from tests.seventeen.table import messages, table

pytestmark = [
    pytest.mark.server,
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.proof,
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """All scenes, once."""
    played = asyncio.run(play(tmp_path_factory.mktemp("seventeen")))
    Console(width=200).print(table(judge(played.evidence)))
    return played


def test_there_are_seventeen() -> None:
    assert len({row.event for row in ROWS}) == len(ROWS) == 17


def test_every_scene_went_as_it_must(played: Played) -> None:
    assert played.went_wrong == []


def test_each_message_is_shown_whole(played: Played) -> None:
    shown = [message.partition(" ") for message in messages(judge(played.evidence))]
    assert len({subject.rpartition(".")[0] for subject, _, _ in shown}) == len(ROWS)
    for subject, _, body in shown:
        said = [told.body for told in played.evidence.messages if told.subject == subject]
        assert msgspec.json.decode(body) in said


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.theirs)
def test_it_is_really_emitted(row: Row, played: Played) -> None:
    (finding,) = judge(played.evidence, [row])
    assert finding.told is not None, f"{finding.seen} messages on {row.event}, and none proves it"
    assert finding.told.subject.startswith(f"{row.event}.")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.theirs)
def test_it_is_missed_when_it_was_not_said_or_said_nothing(row: Row, played: Played) -> None:
    for evidence in (played.evidence.without(row.event), played.evidence.hollow(row.event)):
        (finding,) = judge(evidence, [row])
        assert finding.told is None
