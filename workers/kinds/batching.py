"""A batch kind's own code, with what it leaves unsaid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from workers.kinds.outcomes import Child, ChildEnd, Fail

__all__ = ["BatchCode"]


class BatchCode:
    """The methods of a batch kind; see `workers.batch` for what each is asked. Raises whatever they raise."""

    def __init__(self, code: Any) -> None:
        self._code = code

    def expand(self, value: Any) -> list[Child]:
        """The children, in their order."""
        found: Iterable[Child] | Fail = self._code.expand(value)
        if isinstance(found, Fail):
            raise found
        return list(found)

    def parallelism(self, value: Any) -> int | None:
        """How many children may be under way at once; None where only the queues' depth says."""
        most: int | None = self._code.parallelism(value) if hasattr(self._code, "parallelism") else None
        if most is not None and most < 1:
            raise ValueError(f"parallelism must be 1 or more, not {most}")
        return most

    def settled(self, value: Any, counts: Mapping[str, int]) -> str | None:
        """Why the children that go on need not; None while they do."""
        reason: str | None = self._code.settled(value, counts) if hasattr(self._code, "settled") else None
        return reason

    def outline(self, end: ChildEnd) -> Any:
        """What `reduce` gets of an end."""
        return self._code.outline(end) if hasattr(self._code, "outline") else end

    def reduce(self, value: Any, ends: Sequence[Any]) -> Any:
        """The batch's result, of all outlines in the children's order."""
        found = self._code.reduce(value, ends)
        if isinstance(found, Fail):
            raise found
        return found
