"""Guards of short jobs that travel together."""

from __future__ import annotations

from typing import Final

from tests.mutation.guard import Edit, Guard

__all__ = ["GUARDS"]

TRAIN: Final = "workers/runtime/train.py"
WORKER: Final = "workers/runtime/worker.py"
TAKEN_APART: Final = "self._part(worker, worker.go_on_after, core.TakenApart(outcome.error))"

GUARDS: Final = (
    Guard(
        "train: refused, not run",
        "on a train, too, nothing runs whose `started` is not durable",
        (
            Edit(
                TRAIN,
                "                self._let_off(worker, command, begun=write)\n",
                """                if command.event.__class__.__name__ == "Started":
                    left.append((worker, worker.step(core.Stored(command.after + 1), server_now)))
                else:
                    self._let_off(worker, command, begun=write)
""",
            ),
        ),
        6,
    ),
    Guard(
        "train: same write again",
        "whoever gets off with a write that may have been stored sends that very write again",
        (Edit(TRAIN, "self._let_off(worker, command, begun=write)", "self._let_off(worker, command)"),),
        22,
    ),
    Guard(
        "train: only the guilty pays",
        "a job whose call died among others spends nothing",
        (Edit(TRAIN, TAKEN_APART, "self._part(worker, worker.go_on_with, outcome, call)"),),
        14,
    ),
    Guard(
        "train: nobody pays for time",
        "a job whose time another may have used up spends nothing",
        (Edit(TRAIN, "(died or _ran_out(outcome))", "died"),),
        6,
    ),
    Guard(
        "train: notice of a child",
        "on a train, too, a child's batch is told of its end before the message is acknowledged",
        (
            Edit(
                TRAIN,
                "stored = await self._rooms.settle.pay_many(owed)",
                "stored = [True] * len(owed)",
            ),
        ),
        6,
    ),
    Guard(
        "train: slot given back",
        "a train that nobody is left on gives its slot back",
        (Edit(TRAIN, "        finally:\n            reservation.release()\n", ""),),
        56,
    ),
    Guard(
        "active no more",
        "whatever becomes of a delivery, its job is no longer shown as active here",
        (
            Edit(
                WORKER,
                "                self._rooms.fleet.forget(ticket.kind, ticket.job_id)\n",
                "                pass\n",
            ),
        ),
        6,
    ),
)
