"""Plays the scenes on the real thing, and finds the message that proves each row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from tests.integration.stack import Stack, stack
from tests.seventeen.asked import FOLDER, SETTINGS
from tests.seventeen.evidence import Evidence, Told, gather
from tests.seventeen.rows import ROWS, Row
from tests.seventeen.scenes import SCENES, NotSo, Scene

__all__ = ["Finding", "Played", "judge", "play"]

ROOT: Final = Path(__file__).resolve().parents[2]


class Finding(Struct, frozen=True, kw_only=True):
    """A row, and what proves it."""

    row: Row
    told: Told | None = None
    """None: nothing proves it."""
    proof: dict[str, Any] = {}
    seen: int = 0
    """Messages of the event, proof or not."""


class Played(Struct, frozen=True):
    """What came of the scenes."""

    evidence: Evidence
    went_wrong: list[str]
    """Scenes that did not go as they must, and why."""


async def play(folder: Path, say: Callable[[str], None] = lambda line: None) -> Played:
    """Play all scenes in a folder, which keeps the gateway's log. One that goes wrong does not keep others back."""
    (folder / "jetray.toml").write_text(SETTINGS)
    went_wrong = []
    async with stack(folder) as jetray:
        environment = {"PYTHONPATH": str(ROOT), FOLDER: str(folder)}
        await jetray.gateway(ray="local", log=folder / "gateway.log", **environment)
        for scene in SCENES:
            say(scene.__doc__ or scene.__name__)
            why = await _goes_wrong(scene, jetray, folder)
            if why:
                went_wrong.append(f"{scene.__name__}: {why}")
        return Played(await gather(jetray.bus), went_wrong)


async def _goes_wrong(scene: Scene, jetray: Stack, folder: Path) -> str:
    try:
        await scene(jetray, folder)
    except NotSo as error:
        return str(error)
    except TimeoutError:
        return "what was waited for did not come"
    return ""


def judge(evidence: Evidence, rows: Sequence[Row] = ROWS) -> list[Finding]:
    """For each row the first message that proves it, if there is one."""
    return [_find(row, evidence) for row in rows]


def _find(row: Row, evidence: Evidence) -> Finding:
    messages = evidence.of(row.event)
    for told in messages:
        proof = _proof(row, told, evidence)
        if proof:
            return Finding(row=row, told=told, proof=proof, seen=len(messages))
    return Finding(row=row, seen=len(messages))


def _proof(row: Row, told: Told, evidence: Evidence) -> dict[str, Any] | None:
    try:
        return row.proves(told.body, evidence)
    except KeyError:
        # A field that it must tell is not there.
        return None
