"""Guards of what a gateway holds: leases and slots."""

from __future__ import annotations

from typing import Final

from tests.mutation.guard import Edit, Guard

__all__ = ["GUARDS"]

WORKER: Final = "workers/runtime/worker.py"

GUARDS: Final = (
    Guard(
        "lease stop",
        "an attempt whose lease could not be renewed is dead before the lease ends",
        (
            Edit(
                "workers/runtime/lease.py",
                "return now >= lease.renewed + self._ack_wait * (1 - MARGIN)",
                "return False",
            ),
        ),
        21,
    ),
    Guard(
        "late answer to a renewal",
        "an answer that comes late does not take back what a later renewal has won",
        (Edit("workers/runtime/lease.py", "lease.renewed = max(lease.renewed, sent)", "lease.renewed = sent"),),
        346,
    ),
    Guard(
        "lease lost in the same turn",
        "what arrives in the very turn in which the lease is lost is not acted on",
        (
            Edit(
                WORKER,
                """            if self.lost:
                # In the very turn in which this arrived: too late for the cancellation to be seen here.
                return
""",
                "",
            ),
        ),
        140,
    ),
    Guard(
        "slots released",
        "a delivery that comes to no attempt gives its slot back",
        (Edit("workers/runtime/hands.py", "self.reservation.release()", "pass"),),
        0,
    ),
    Guard(
        "a slot of a dead actor",
        "who is granted a slot in the turn in which its actor dies asks for another",
        (
            Edit(
                "infra/pool/crew.py",
                """            berth = self._berths.get(ticket.actor)
            if berth is not None:
""",
                """            berth = self._berths[ticket.actor]
            if True:
""",
            ),
        ),
        90,
    ),
)
