"""What a batch's later run does with a child, given the child's log."""

from __future__ import annotations

from msgspec import Struct

from contracts.events import Cancelled, Failed, Requeued
from workers.core.log import LogView

__all__ = ["Again", "Await", "Fresh", "Requeue", "Verdict", "rerun"]


class Fresh(Struct, frozen=True):
    """Publish its message as if for the first time: the log, if there is one, will say what becomes of it."""


class Requeue(Struct, frozen=True):
    """Append `requeued`, which opens that run, and publish the run's message."""

    run: int
    dlq_sequence: int
    """Of its dead letter; 0 for one that was cancelled."""


class Again(Struct, frozen=True):
    """The run's message may not have been published: publish it, which is done once."""

    run: int


class Await(Struct, frozen=True):
    """It is under way, or has ended since the batch's run began: its notice comes."""


Verdict = Fresh | Requeue | Again | Await


def rerun(log: LogView, *, parent: str, since: int, input_sha256: str | None) -> Verdict:
    """What becomes of a child of `parent` whose end is not known yet.

    Ends in `EVENTS` up to sequence `since` belong to an earlier run. `input_sha256` is None where this process does not
    know the child's kind.
    """
    tail = log.tail
    if tail is None or _is_another(log, parent, input_sha256):
        return Fresh()
    if isinstance(tail, Requeued):
        return Again(tail.run)
    if isinstance(tail, (Failed, Cancelled)) and log.sequence <= since:
        return Requeue(tail.run + 1, tail.dlq_sequence if isinstance(tail, Failed) else 0)
    if isinstance(tail, Cancelled) and tail.run > 1 and tail.parent == parent:
        # Cancelled before the run's message was published, maybe: nobody else would tell the batch.
        return Again(tail.run)
    # A log that names another parent, or none, owes this batch nothing before a message of the batch meets it.
    return Await() if tail.parent == parent else Fresh()


def _is_another(log: LogView, parent: str, input_sha256: str | None) -> bool:
    """Whether the log is of a job with another input: the child's message will be refused."""
    assert log.tail is not None
    if log.tail.parent == parent or log.opening is None:
        return False
    return input_sha256 is None or log.opening.input_sha256 != input_sha256
