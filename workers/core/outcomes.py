"""What each transition may come to: beside `lifecycle.TABLE`, which says who decides, the phases and commands after it.

A row a transition, and in it every way that it can end: the next phase, and what is to be done, in order. Tests hold
the rows to the code from both sides: what is declared can come about, and nothing else does. `docs/lifecycle.md` is
made of them (`make diagram`).
"""

from __future__ import annotations

from typing import Final

from workers.core.job import (
    Ack,
    Adopted,
    Append,
    Buried,
    Bury,
    ChildrenEnded,
    Command,
    Delivered,
    Drained,
    EndChildren,
    Gone,
    HandedOver,
    HandOver,
    LeaseLost,
    Leave,
    LogRead,
    Move,
    MovedOn,
    Nak,
    Pay,
    Phase,
    Probe,
    Probed,
    Raised,
    Read,
    Refuse,
    Reported,
    Returned,
    Run,
    Stop,
    Stored,
    TakenApart,
    Tracked,
    TrackingFailed,
    Undecodable,
)

__all__ = ["OUTCOMES", "Outcome"]

Outcome = tuple[Phase, tuple[type[Command], ...]]
"""The next phase, and the commands."""


def _to(phase: Phase, *commands: type[Command]) -> Outcome:
    return phase, commands


# By what the start table says of a log: open an attempt, or give up; settle, another's, in vain; wait; leave.
_BEGINS: Final = {_to(Phase.OPENING, Append), _to(Phase.BURYING, Bury)}
_IS_ENDED: Final = {_to(Phase.SETTLED, Pay, Ack)}
_IS_SPARE: Final = {_to(Phase.SETTLED, Ack)}
_IS_REFUSED: Final = {_to(Phase.SETTLED, Refuse, Ack)}
_WAITS: Final = {_to(Phase.SETTLED, Nak)}
_ASKS: Final = {_to(Phase.PROBING, Probe)}
_RUNS_HERE: Final = {_to(Phase.OPENING, HandOver)}
_LEAVES: Final = {_to(Phase.SETTLED, Leave)}

_STOPS: Final = {_to(Phase.SETTLED, Stop, Leave)}
_REPORTS: Final = {_to(Phase.REPORTING, Append)}
_GOES_ON: Final = {_to(Phase.RUNNING)}
_ENDS: Final = {_to(Phase.ENDING, Append)}
_ENDS_CHILDREN: Final = {_to(Phase.RUNNING, EndChildren)}
_GIVES_UP: Final = {_to(Phase.BURYING, Bury)}

OUTCOMES: Final[dict[tuple[Phase, type], set[Outcome]]] = {
    (Phase.OPENING, Delivered): {_to(Phase.OPENING, Append), _to(Phase.OPENING, Read)},
    (Phase.OPENING, Undecodable): {_to(Phase.BURYING, Bury), _to(Phase.OPENING, Read)},
    (Phase.OPENING, LogRead): (_BEGINS | _IS_ENDED | _IS_SPARE | _IS_REFUSED | _WAITS | _ASKS | _RUNS_HERE | _LEAVES),
    (Phase.OPENING, Stored): {_to(Phase.RUNNING, Run)},
    (Phase.OPENING, HandedOver): _LEAVES,
    (Phase.OPENING, LeaseLost): _LEAVES,
    (Phase.PROBING, Probed): _BEGINS | _IS_SPARE | _WAITS | _RUNS_HERE,
    (Phase.PROBING, LeaseLost): _LEAVES,
    (Phase.RUNNING, Reported): _REPORTS,
    (Phase.RUNNING, Tracked): _REPORTS,
    (Phase.RUNNING, TrackingFailed): _REPORTS,
    (Phase.RUNNING, Returned): _ENDS | _GOES_ON,
    (Phase.RUNNING, Raised): _ENDS | _GIVES_UP | _GOES_ON,
    (Phase.RUNNING, Gone): _ENDS | _GIVES_UP,
    (Phase.RUNNING, TakenApart): _ENDS,
    (Phase.RUNNING, ChildrenEnded): _ENDS,
    (Phase.RUNNING, Adopted): _GOES_ON,
    (Phase.RUNNING, LogRead): _GOES_ON | _ENDS_CHILDREN | _STOPS | {_to(Phase.SETTLED, Stop, Pay, Ack)},
    (Phase.RUNNING, Drained): {_to(Phase.ENDING, Stop, Append)},
    (Phase.RUNNING, LeaseLost): _STOPS,
    (Phase.REPORTING, Stored): _GOES_ON,
    (Phase.REPORTING, LogRead): (_GOES_ON | _REPORTS | _ENDS_CHILDREN | _STOPS | {_to(Phase.SETTLED, Stop, Pay, Ack)}),
    (Phase.REPORTING, LeaseLost): _STOPS,
    (Phase.BURYING, Buried): _ENDS,
    (Phase.BURYING, LeaseLost): _LEAVES,
    (Phase.ENDING, Stored): _IS_ENDED | _WAITS | {_to(Phase.MOVING, Move)},
    (Phase.ENDING, LogRead): (
        _ENDS | _ENDS_CHILDREN | _GIVES_UP | _IS_ENDED | _IS_SPARE | _IS_REFUSED | _RUNS_HERE | _LEAVES
    ),
    (Phase.ENDING, LeaseLost): _LEAVES,
    (Phase.MOVING, MovedOn): _IS_SPARE | _WAITS,
    (Phase.MOVING, LeaseLost): _LEAVES,
}
"""Every outcome of every legal transition."""
