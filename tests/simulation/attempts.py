"""Laws about attempts: who may write, when user code runs, and what budgets are spent."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise

from contracts import headers as h
from contracts.events import Completed, Event, Failed, Progress, Requeued, Retrying, Spent, Started
from infra.bus.memory.stream import EPOCH
from tests.simulation.evidence import Evidence, Written
from tests.simulation.incarnation import ACK_WAIT_S, Incarnation
from tests.simulation.kinds import KINDS
from tests.simulation.ledger import Entry

__all__ = ["budgets", "company", "deadlines", "executions", "holders", "leases", "losses", "results"]


def executions(seen: Evidence) -> Iterator[str]:
    """No user code runs before its `started` is durable, nor in another's hands, nor twice in one attempt."""
    for entry in seen.world.ledger.entries:
        started = seen.started(entry)
        if started is None or started.sequence > entry.durable:
            yield f"{_name(entry)}: user code ran before its started was durable"
        elif started.nonce != entry.nonce:
            yield f"{_name(entry)}: user code ran in a gateway that does not hold it"
    for key, times in Counter(entry.key for entry in seen.world.ledger.entries).items():
        if times > 1:
            yield f"{key}: one attempt was executed {times} times"


def holders(seen: Evidence) -> Iterator[str]:
    """An attempt's holder alone writes of it, and nothing once the next attempt has begun."""
    for (kind, job_id), log in seen.logs.items():
        opened: dict[tuple[int, int], str] = {}
        newest = (1, 1)
        for written in log:
            event = written.event
            # A `requeued` bears the attempt of the run before.
            at = event.run, 0 if isinstance(event, Requeued) else event.attempt
            if isinstance(event, Started):
                opened[at] = written.nonce
            if at < newest:
                yield f"{kind}.{job_id}: n {event.n} is of attempt {at}, after {newest} had begun"
            newest = max(newest, at)
            if _is_its_holders(event) and opened.get(at) != written.nonce:
                yield f"{kind}.{job_id}: n {event.n} was not written by the holder of attempt {at}"


def budgets(seen: Evidence) -> Iterator[str]:
    """Errors of user code spend `max_attempts`, lost attempts spend `max_lost`, drain spends nothing."""
    for (kind, job_id), log in seen.logs.items():
        spent = Spent()
        before: Event | None = None
        for written in log:
            event = written.event
            if isinstance(event, Requeued):
                spent, before = Spent(), None
                continue
            if isinstance(event, (Started, Retrying)):
                if event.spent != _due(spent, before, event):
                    yield f"{kind}.{job_id}: n {event.n} says {event.spent} after {spent}"
                spent = event.spent
            before = event


def company(seen: Evidence) -> Iterator[str]:
    """Who shared a call pays for its loss only where it was itself what broke; and nobody is taken apart who did not.

    An attempt that did not share its call may be lost for any reason.
    """
    shared = {key for keys in seen.world.ledger.shared for key in keys}
    broke = {entry.key for entry in seen.world.ledger.entries if entry.how == "lost"}
    for (kind, job_id), log in seen.logs.items():
        for written in log:
            event = written.event
            if not isinstance(event, (Retrying, Failed)):
                continue
            key = kind, job_id, event.run, event.attempt
            if event.error.type == "TakenApart":
                if key not in shared:
                    yield f"{kind}.{job_id}: n {event.n} says that its call was taken apart, and it shared none"
            elif event.error.reason == "lost" and event.error.type != "Drained" and key in shared - broke:
                yield f"{kind}.{job_id}: n {event.n} pays for a call that it shared, and did not break itself"


def _due(spent: Spent, before: Event | None, event: Started | Retrying) -> Spent:
    failed = Spent(attempts=spent.attempts + 1, lost=spent.lost)
    lost = Spent(attempts=spent.attempts, lost=spent.lost + 1)
    if isinstance(event, Retrying):
        if event.error.type in ("Drained", "TakenApart"):
            return spent
        return lost if event.error.reason == "lost" else failed
    if before is None or isinstance(before, Retrying):
        return spent
    # Taken over. A batch that has moved since spends nothing.
    return spent if KINDS[event.kind].is_batch and not isinstance(before, Started) else lost


def deadlines(seen: Evidence) -> Iterator[str]:
    """A run's deadline stays what its first attempt said, and nothing fails by it before it has passed."""
    for (kind, job_id), log in seen.logs.items():
        said: dict[int, datetime] = {}
        for written in log:
            event = written.event
            if isinstance(event, Started) and said.setdefault(event.run, event.deadline) != event.deadline:
                yield f"{kind}.{job_id}: n {event.n} says {event.deadline}, the run began with {said[event.run]}"
            # Clocks and events round otherwise.
            by_deadline = isinstance(event, Failed) and event.error.reason == "deadline"
            if by_deadline and event.time < said[event.run] - timedelta(milliseconds=1):
                yield f"{kind}.{job_id}: n {event.n} fails at {event.time} by a deadline at {said[event.run]}"


def losses(seen: Evidence) -> Iterator[str]:
    """An attempt is taken over only where something befell its holder, its message, or the server."""
    holders = {it.nonce: it for it in seen.world.incarnations}
    for (kind, job_id), log in seen.logs.items():
        held: Written | None = None
        before: Event | None = None
        for written in log:
            event = written.event
            if isinstance(event, Started):
                if held is not None and not isinstance(before, (Retrying, Requeued)):
                    lost = held.event
                    assert isinstance(lost, Started)
                    if not _was_frozen_giving_back(seen, log) and not _is_explained(
                        seen, holders[held.nonce], lost, event
                    ):
                        yield f"{kind}.{job_id}: attempt {lost.attempt} was lost, and nothing befell {lost.gateway}"
                held = written
            before = event


def _is_explained(seen: Evidence, holder: Incarnation, lost: Started, taken: Started) -> bool:
    strikes = seen.world.strikes
    if _has_twins(seen, lost.kind, lost.job_id):
        return True
    if (lost.kind, lost.job_id) in strikes.adrift or {lost.delivery.sequence, taken.delivery.sequence} & strikes.twice:
        return True
    # A lease that is lost now may have gone without renewal for as long as it is.
    since = (lost.time - EPOCH).total_seconds() - ACK_WAIT_S
    # An event tells its time in whole microseconds.
    until = (taken.time - EPOCH).total_seconds() + 0.001
    return any(began <= until and ended >= since for began, ended in holder.troubles())


def results(seen: Evidence) -> Iterator[str]:
    """A `completed` bears what user code returned in that very attempt."""
    returned = {entry.key: entry.result for entry in seen.world.ledger.entries if entry.how == "returned"}
    for (kind, job_id), log in seen.logs.items():
        for written in log:
            event = written.event
            if not isinstance(event, Completed) or KINDS[kind].is_batch:
                continue
            if returned.get((kind, job_id, event.run, event.attempt)) != bytes(event.result):
                yield f"{kind}.{job_id}: completed in run {event.run}, and no user code returned that"


def leases(seen: Evidence) -> Iterator[str]:
    """Two attempts of one job never run at once, unless a frozen process or the server itself is to blame."""
    for (kind, job_id), entries in seen.executions.items():
        for earlier, later in pairwise(sorted(entries, key=lambda entry: (entry.run, entry.attempt))):
            if earlier.overlaps(later) and not _is_excused(seen, earlier, later):
                yield (
                    f"{kind}.{job_id}: attempts {earlier.attempt} (from {earlier.began:.3f} to {earlier.ended}) "
                    f"and {later.attempt} (from {later.began:.3f}) ran at once"
                )


def _is_excused(seen: Evidence, earlier: Entry, later: Entry) -> bool:
    if earlier.nonce == later.nonce and (earlier.run, earlier.attempt + 1) == (later.run, later.attempt):
        # A gateway knows what it runs, as long as nobody else has come in between.
        return False
    if (earlier.kind, earlier.job_id) in seen.world.strikes.adrift or _has_twins(seen, earlier.kind, earlier.job_id):
        return True
    holder = next(it for it in seen.world.incarnations if it.nonce == earlier.nonce)
    if _was_frozen_giving_back(seen, seen.log(earlier.kind, earlier.job_id)):
        return True
    frozen = any(began <= _end(earlier) and ended >= earlier.began - ACK_WAIT_S for began, ended in holder.freezes)
    if frozen or (earlier.run < later.run and holder.cuts):
        # Who is cut off does not hear of a cancel, after which a batch may run its child again at once.
        return True
    # Between the two, someone may have taken over what the server had handed out twice.
    since = (earlier.run, earlier.attempt), (later.run, later.attempt)
    return any(
        isinstance(it.event, Started)
        and since[0] <= (it.event.run, it.event.attempt) <= since[1]
        and it.event.delivery.sequence in seen.world.strikes.twice
        for it in seen.log(later.kind, later.job_id)
    )


def _end(entry: Entry) -> float:
    return math.inf if entry.ended is None else entry.ended


def _was_frozen_giving_back(seen: Evidence, log: list[Written]) -> bool:
    """Whether someone was frozen between its `retrying` and its nak.

    No look at a clock helps against that: thawed, it sends the nak, which takes the message from whoever holds it now.
    """
    frozen = {it.nonce: [began for began, _ in it.freezes] for it in seen.world.incarnations}
    for written in log:
        if isinstance(written.event, Retrying):
            at = (written.event.time - EPOCH).total_seconds()
            if any(at - 0.001 <= began <= at + 0.1 for began in frozen.get(written.nonce, ())):
                return True
    return False


def _has_twins(seen: Evidence, kind: str, job_id: str) -> bool:
    """Whether a message that was moved was delivered again too: a gateway died between the copy and the ack.

    Then the original may begin what the copy, which is younger, takes over.
    """
    before: Event | None = None
    for written in seen.log(kind, job_id):
        event = written.event
        if isinstance(event, Started) and isinstance(before, Retrying) and before.moved:
            copies = [it.stored.sequence for it in seen.messages if it.stored.headers.get(h.ORIGIN) == event.origin]
            if copies and event.delivery.sequence < copies[0]:
                return True
        before = event
    return False


def _is_its_holders(event: Event) -> bool:
    """Whether only who holds the attempt may write such an event."""
    if isinstance(event, Progress):
        return event.step != "cancelling"
    return isinstance(event, (Completed, Retrying))


def _name(entry: Entry) -> str:
    return f"{entry.kind}.{entry.job_id} run {entry.run} attempt {entry.attempt}"
