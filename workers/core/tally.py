"""A batch's children, folded from their notices.

The notices of a parent are read from the first one on, so whoever takes a batch over comes to the same tally.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

from msgspec import Struct

from contracts.joins import ChildOutcome, Notice
from contracts.tokens import as_token, is_token, short_hash

__all__ = ["Tally", "child_id", "child_key", "duplicate_keys"]


class Tally(Struct):
    """How each child of a batch's run ended, by its place."""

    children: Sequence[str]
    """`<kind>.<id>` of each child."""
    since: int = 0
    """Ends in `EVENTS` up to this sequence belong to an earlier run; of those only `completed` counts."""
    letters: int = 0
    """Refusals in `DLQ` up to this sequence belong to an earlier run, and do not count."""
    ends: dict[int, Notice] = {}
    outcomes: dict[str, int] = {}
    """How many of them ended how: counted as they come, for a batch of thousands asks at each."""
    places: dict[str, int] = {}
    """Of the children, by their names."""

    def __post_init__(self) -> None:
        self.places = {child: place for place, child in enumerate(self.children)}
        self.outcomes = dict.fromkeys(get_args(ChildOutcome), 0)

    def fold(self, notice: Notice) -> bool:
        """Take a notice in; True where it changed something."""
        # By name: whoever found the end with a stranger's message of the same id in hand does not know the place.
        place = self.places.get(notice.child)
        if place is None or self._is_over(notice):
            return False
        known = self.ends.get(place)
        if known is not None and _rank(known) >= _rank(notice):
            return False
        self.saw(place, notice)
        return True

    def saw(self, place: int, notice: Notice) -> None:
        """Count this end, whatever was known; as where the batch's holder found it in the child's own log."""
        known = self.ends.get(place)
        if known is not None:
            self.outcomes[known.outcome] -= 1
        self.ends[place] = notice
        self.outcomes[notice.outcome] += 1

    def _is_over(self, notice: Notice) -> bool:
        """Whether it tells of an earlier run of the batch."""
        if notice.outcome == "refused":
            return notice.sequence <= self.letters
        return notice.outcome != "completed" and notice.sequence <= self.since

    @property
    def done(self) -> bool:
        """Every child has ended."""
        return len(self.ends) == len(self.children)

    def counts(self) -> Mapping[str, int]:
        """Children by how they ended, and those still open."""
        return {**self.outcomes, "open": len(self.children) - len(self.ends)}


def _rank(notice: Notice) -> tuple[bool, int]:
    """Of two notices the higher counts. A refusal's sequence is of another stream, so any end is above it."""
    return notice.outcome != "refused", notice.sequence


def child_key(key: str) -> str:
    """What stands for a child's key in its id: the key, unless it holds a dash or is no token."""
    return key if is_token(key) and "-" not in key else short_hash(key)


def child_id(parent_id: str, key: str) -> str:
    """`<parent>-<key>`, or the sha256 of it where it would be over 128 characters."""
    return as_token(f"{parent_id}-{child_key(key)}")


def duplicate_keys(keys: Sequence[str]) -> list[str]:
    """Keys whose children would share an id, in order of their first repetition."""
    seen: set[str] = set()
    twice: dict[str, None] = {}
    for key in keys:
        if child_key(key) in seen:
            twice[key] = None
        seen.add(child_key(key))
    return list(twice)
