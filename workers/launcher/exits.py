"""Which error becomes which exit status. What is not named here is a defect, and shows its traceback."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["CONFIG", "FAILED", "INTERRUPTED", "OK", "USAGE", "Ending", "Failure", "Misconfigured", "of"]

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
CONFIG: Final = 78
"""As in sysexits.h: the configuration is wrong, and trying again does not help."""
INTERRUPTED: Final = 130


class Failure(Exception):
    """The command did not succeed: one line that says why. Exit status 1."""


class Misconfigured(Exception):
    """The operator's to mend: one line that says what. Exit status 78."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a command ends that failed in a way that is known."""

    status: int
    line: str


def of(error: BaseException) -> Ending | None:
    """How to end with `error`, or with what a task group wrapped in it; None for what nobody expected."""
    # Imported late: a command that succeeds needs none of them.
    from infra.bus.base import BusError
    from infra.bus.embedded import ServerMissing
    from infra.bus.topology import Foreign
    from infra.pool.base import ConfigError, PoolLost
    from workers.kinds.registry import KindError
    from workers.settings_file import masked_text
    from workers.settings_source import BadSettings

    configuration = (BadSettings, ConfigError, Foreign, KindError, Misconfigured, ServerMissing)
    leaves = list(_leaves(error))
    # One wrong setting may end several tasks; whatever else ended with it is its consequence.
    for known, status in ((configuration, CONFIG), ((Failure, BusError, PoolLost), FAILED)):
        found = [leaf for leaf in leaves if isinstance(leaf, known)]
        if found and (status == CONFIG or len(found) == len(leaves)):
            return Ending(status, masked_text(" ".join(str(found[0]).split())))
    return None


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error
