"""What can be measured in a proposal without understanding it. Pure functions of the text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from workers.kinds.deliberation.providers.base import Mark

__all__ = ["QUALITY", "Page", "mark", "read_page", "section_for", "terms_of", "uncovered"]

QUALITY: Final = "quality"
"""The criterion that is measured on the text as a whole; every other one has a section of its own."""

_WORDS_AROUND: Final = 60
_WORDS_A_TERM: Final = 30
"""A proposal loses by its distance from so many words, and so many more for each term of the task."""

_MAX_TERMS: Final = 12
_TERM_CHARS: Final = 40
_WORD: Final = re.compile(r"\w+")
_COMMON: Final = frozenset(
    _WORD.findall(
        "about after also because been before being between both could does each from have implement into more "
        "most must only other over plan same should some story such than that their them then there these they "
        "this those through under until upon very what when where which while will with would your"
    )
)
"""Words that tell nothing about a task."""


def terms_of(description: str) -> list[str]:
    """The words that a task is about, in the order in which they first come; never none."""
    words = list(dict.fromkeys(word[:_TERM_CHARS] for word in _words(description)))
    telling = [word for word in words if len(word) > 3 and word not in _COMMON]
    return (telling or words or ["task"])[:_MAX_TERMS]


def section_for(criterion: str) -> str:
    """The heading of the section that a criterion is measured on."""
    return " ".join(criterion.split()).capitalize() or "Other"


@dataclass(slots=True)
class Page:
    """A proposal, taken apart at its `## ` headings."""

    head: list[str]
    sections: dict[str, list[str]]

    def render(self) -> str:
        """The text again."""
        parts = [self.head, *([f"## {title}", *lines] for title, lines in self.sections.items())]
        return "\n\n".join("\n".join(lines) for lines in parts)


def read_page(proposal: str) -> Page:
    """`proposal` in parts."""
    page = Page([], {})
    lines = page.head
    for line in proposal.splitlines():
        if line.startswith("## "):
            lines = page.sections.setdefault(line[3:].strip(), [])
        elif line.strip():
            lines.append(line)
    return page


def uncovered(terms: Sequence[str], lines: Sequence[str]) -> list[str]:
    """The terms that no line names."""
    found = set(_words("\n".join(lines)))
    return [term for term in terms if term not in found]


def mark(criterion: str, proposal: str, terms: Sequence[str]) -> Mark:
    """How well `proposal` does by `criterion`, and what was measured."""
    page = read_page(proposal)
    if criterion == QUALITY:
        return _quality(page, proposal, terms)
    title = section_for(criterion)
    lines = page.sections.get(title)
    if lines is None:
        return Mark(0.0, f"there is no section {title}")
    covered = len(terms) - len(uncovered(terms, lines))
    return Mark(
        0.4 + 0.6 * covered / len(terms), f"section {title} names {covered} of the {len(terms)} terms of the task"
    )


def _quality(page: Page, proposal: str, terms: Sequence[str]) -> Mark:
    covered = len(terms) - len(uncovered(terms, [line for lines in page.sections.values() for line in lines]))
    words, ideal = len(_words(proposal)), _WORDS_AROUND + _WORDS_A_TERM * len(terms)
    return Mark(
        0.7 * covered / len(terms) + 0.3 * min(words, ideal) / max(words, ideal),
        f"{covered} of the {len(terms)} terms of the task are covered, in {words} words where {ideal} are ideal",
    )


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]
