"""Commands on `control.>`: cancel a job, replay a dead letter, drain a gateway. Everything is in the subject."""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

from contracts.tokens import is_token

__all__ = ["Cancel", "CancelRequest", "Command", "Drain", "NotACommand", "Replay", "parse"]


class NotACommand(ValueError):
    """A subject under `control.` that is no command."""


class Cancel(Struct, frozen=True):
    """`control.cancel.<kind>.<job_id>`; the body may be `{"reason": …, "requested_by": …}`."""

    kind: str
    job_id: str


class Replay(Struct, frozen=True):
    """`control.replay.<dlq sequence>`."""

    sequence: int


class Drain(Struct, frozen=True):
    """`control.drain.<gateway>`."""

    gateway: str


class CancelRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of a cancel; empty is as good."""

    reason: str = "cancelled by an operator"
    requested_by: str = "operator"


Command = Cancel | Replay | Drain

_SEQUENCE: Final = re.compile(r"[1-9][0-9]{0,17}")


def parse(subject: str) -> Command:
    """The command that came on `subject`, or `NotACommand`."""
    match subject.split("."):
        case ["control", "cancel", kind, job_id] if is_token(kind) and is_token(job_id):
            return Cancel(kind, job_id)
        case ["control", "replay", sequence] if _SEQUENCE.fullmatch(sequence):
            return Replay(int(sequence))
        case ["control", "drain", gateway] if is_token(gateway):
            return Drain(gateway)
    raise NotACommand(
        f"{subject} is none of control.cancel.<kind>.<job_id>, control.replay.<dlq sequence>, control.drain.<gateway>"
    )
