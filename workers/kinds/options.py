"""What a kind asks for: its times, its budgets, and which of its errors are worth another attempt."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from workers.kinds.shape import KindError

__all__ = ["Classes", "ErrorClasses", "check_counts", "check_seconds"]

Classes = type[BaseException] | Iterable[type[BaseException]]


class ErrorClasses:
    """Which errors of a kind's code another attempt may mend."""

    def __init__(self, name: str, *, retry_on: Classes | None, no_retry: Classes) -> None:
        self._retry_on = (BaseException,) if retry_on is None else _classes(name, "retry_on", retry_on)
        self._no_retry = _classes(name, "no_retry", no_retry)

    def retryable(self, error: BaseException) -> bool:
        """Whether to try again after `error`; of a group, after all that is in it."""
        if isinstance(error, BaseExceptionGroup):
            return all(map(self.retryable, error.exceptions))
        return isinstance(error, self._retry_on) and not isinstance(error, self._no_retry)


def check_seconds(name: str, **options: float | None) -> None:
    """Raise `KindError` for a time that is none."""
    for option, value in options.items():
        if value is not None and (not _is_number(value) or not 0 < value < math.inf):
            raise KindError(f"kind {name}: {option} must be a number of seconds above 0, not {value!r}")


def check_counts(name: str, least: int, **options: int | None) -> None:
    """Raise `KindError` for a count that is none."""
    for option, value in options.items():
        if value is not None and (type(value) is not int or value < least):
            raise KindError(f"kind {name}: {option} must be a whole number, {least} or more, not {value!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _classes(name: str, option: str, given: Any) -> tuple[type[BaseException], ...]:
    found = tuple(given) if isinstance(given, Iterable) and not isinstance(given, (type, str)) else (given,)
    for each in found:
        if not (isinstance(each, type) and issubclass(each, BaseException)):
            raise KindError(
                f"kind {name}: {option} takes exception classes, as in (ValueError, KeyError), not {each!r}"
            )
    return found
