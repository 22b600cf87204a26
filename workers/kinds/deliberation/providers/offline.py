"""No language model: proposals, critiques and revisions by rules, and scores by measuring the text.

For trials, demonstrations and tests: the same task gives the same council, without a network. It says what it is in
every proposal. A stance decides what a first proposal has; a critic names at most two things that are measurably
missing; the author adds exactly those.
"""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import anyio

from workers.kinds.deliberation.config import OfflineSettings
from workers.kinds.deliberation.providers.base import Ask, Criticise, Mark, Model, Propose, Revise
from workers.kinds.deliberation.providers.measures import (
    QUALITY,
    Page,
    mark,
    read_page,
    section_for,
    terms_of,
    uncovered,
)
from workers.kinds.deliberation.terms import Seat, Task

__all__ = ["LABEL", "MODEL", "OfflineModel", "open_model"]

MODEL: Final = "offline-v1"
LABEL: Final = "[offline: written by rules; no language model took part]"

_APPROACH: Final = "Approach"
_TITLE_CHARS: Final = 100
_GAPS: Final = 2
_AT_ONCE: Final = 3
_ADD: Final = re.compile(r"^- add section (?P<section>.+)$", re.MULTILINE)
_COVER: Final = re.compile(r"^- in section (?P<section>.+), cover: (?P<terms>.+)$", re.MULTILINE)
_LINES: Final = (
    "- {term}: change only what the task needs",
    "- {term}: state first what must hold, then build the least that makes it hold",
    "- {term}: give it one plain name, one owner, and one page that tells how it is run",
    "- {term}: say how it can fail, who notices first, what then happens by itself, and how to go back",
    "- {term}: deliver it as a step of its own and measure it before the next",
)


@asynccontextmanager
async def open_model(settings: OfflineSettings) -> AsyncIterator[Model]:
    """The provider; nothing needs opening."""
    yield OfflineModel(settings.think_s)


class OfflineModel:
    """A `Model` that is none."""

    def __init__(self, think_s: float = 0.0) -> None:
        self._think_s = think_s

    @property
    def provider(self) -> str:
        """Its name in the settings."""
        return "offline"

    def model_for(self, seat: Seat | None) -> str:
        """Always the same: what a message or the settings name as model cannot be asked here."""
        return MODEL

    async def generate(self, ask: Ask) -> str:
        """Text by rules."""
        await anyio.sleep(self._think_s)
        match ask:
            case Propose():
                return _propose(ask)
            case Criticise():
                return _criticise(ask)
            case Revise():
                return _revise(ask)

    async def score(self, task: Task, proposal: str) -> Mapping[str, Mark]:
        """What can be measured, criterion by criterion."""
        await anyio.sleep(self._think_s)
        terms = terms_of(task.description)
        return {criterion: mark(criterion, proposal, terms) for criterion in task.rubric}


def _propose(ask: Propose) -> str:
    task, seat = ask.task, ask.seat
    terms = terms_of(task.description)
    page = Page(
        [
            LABEL,
            f"# Proposal of {_line(seat.agent_id)}, {_line(seat.role)}: {_line(task.description)}",
            f"Stance: {_line(seat.stance)}",
        ],
        {_APPROACH: _lines(seat, _window(terms, seat.index, (2 + seat.index % 3) / 4))},
    )
    for criterion in _emphasised(seat, task):
        page.sections[section_for(criterion)] = _lines(seat, _window(terms, seat.index, 0.5))
    return page.render()


def _criticise(ask: Criticise) -> str:
    gaps = _gaps(ask.proposal, ask.task, ask.seat)[:_GAPS] or ["- nothing measurable is missing"]
    return "\n".join([LABEL, f"{ask.seat.agent_id} on the proposal of {ask.author}:", *gaps])


def _revise(ask: Revise) -> str:
    page = read_page(ask.proposal)
    terms = terms_of(ask.task.description)
    added = []
    for found in _ADD.finditer(ask.critique):
        page.sections.setdefault(found["section"], []).extend(_lines(ask.seat, terms[:_AT_ONCE]))
        added.append(f"section {found['section']}")
    for found in _COVER.finditer(ask.critique):
        page.sections.setdefault(found["section"], []).extend(_lines(ask.seat, found["terms"].split(", ")))
        added.append(found["terms"])
    if added:
        page.head.append(f"Revised after {ask.critic}: {'; '.join(added)}")
    return page.render()


def _gaps(proposal: str, task: Task, critic: Seat) -> list[str]:
    """What is measurably missing, and the critic's own concerns first."""
    page = read_page(proposal)
    terms = terms_of(task.description)
    own = _emphasised(critic, task)
    criteria = [*own, *(name for name in task.rubric if name != QUALITY and name not in own)]
    titles = list(dict.fromkeys(section_for(name) for name in criteria))
    gaps = [f"- add section {title}" for title in titles if title not in page.sections]
    for title in (_APPROACH, *titles):
        missing = uncovered(terms, page.sections.get(title, terms))
        if missing:
            gaps.append(f"- in section {title}, cover: {', '.join(missing[:_AT_ONCE])}")
    return gaps


def _emphasised(seat: Seat, task: Task) -> list[str]:
    """The criteria that the stance speaks of by name; else one of them, in turn."""
    criteria = [name for name in task.rubric if name != QUALITY]
    stance = seat.stance.lower()
    named = [name for name in criteria if name.lower() in stance]
    return named or [criteria[seat.index % len(criteria)]] if criteria else []


def _window(terms: Sequence[str], start: int, share: float) -> list[str]:
    """`share` of the terms, from another one for each seat."""
    count = max(1, math.ceil(len(terms) * share))
    return [terms[(start + i) % len(terms)] for i in range(count)]


def _line(text: str) -> str:
    """On one line, so that it cannot pass for a heading."""
    return " ".join(text.split())[:_TITLE_CHARS]


def _lines(seat: Seat, terms: Sequence[str]) -> list[str]:
    return [_LINES[seat.index % len(_LINES)].format(term=term) for term in terms]
