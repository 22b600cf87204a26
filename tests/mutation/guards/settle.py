"""Guards of settling: what is paid before a message is let go, and who may let it go."""

from __future__ import annotations

from typing import Final

from tests.mutation.guard import Edit, Guard

__all__ = ["GUARDS"]

OPENING: Final = "workers/core/opening.py"
ENDING: Final = "workers/core/ending.py"
HANDS: Final = "workers/runtime/hands.py"
CLIENT: Final = "infra/bus/memory/client.py"
FENCED: Final = "return settled(job, *first, Leave())"

GUARDS: Final = (
    Guard(
        "terminal before ack",
        "the end is stored before the message is acknowledged",
        (
            Edit(
                HANDS,
                "        done = await self._rooms.journal.finish(write)\n",
                """        from contracts.events import is_terminal

        if is_terminal(command.event):
            await self._rooms.settle.ack(self._worker.delivery)
        done = await self._rooms.journal.finish(write)
""",
            ),
        ),
        4,
    ),
    Guard(
        "notice before ack",
        "a child's batch is told of its end before the child's message is acknowledged",
        (
            Edit(
                ENDING,
                "return job, (Pay(end, stimulus.sequence), Ack())",
                "return job, (Ack(), Pay(end, stimulus.sequence))",
            ),
        ),
        4,
    ),
    Guard(
        "notice for an end found first",
        "who finds the job ended when it begins pays for that end",
        (
            Edit(
                OPENING,
                "return settled(job, Pay(log.tail, log.sequence), Ack())",
                "return settled(job, Ack())",
            ),
        ),
        0,
    ),
    Guard(
        "notice for an end found last",
        "a holder whose own end came too late pays for the one that was there",
        (
            Edit(
                ENDING,
                "return settled(job, *first, Pay(tail, log.sequence), Ack())",
                "return settled(job, *first, Ack())",
            ),
        ),
        3,
    ),
    Guard(
        "fenced: no ack",
        "who was overtaken settles nothing: its ack would delete the message of whoever holds the job",
        (Edit(ENDING, FENCED, "return settled(job, *first, Ack())"),),
        12,
    ),
    Guard(
        "fenced: no nak",
        "who was overtaken settles nothing: its nak would hand out the message that another holds",
        (Edit(ENDING, FENCED, "return settled(job, *first, Nak(0.0))"),),
        10,
    ),
    Guard(
        "dead letter before failed",
        "`failed` names a dead letter that is stored already",
        (
            Edit(
                HANDS,
                """        sequence = await self._rooms.settle.bury(
            self._worker.delivery,
            self._worker.received.ticket,
            command.reason,
            run=command.run,
            attempts=command.attempts,
        )
        return core.Buried(sequence)""",
                "        return core.Buried(1)",
            ),
        ),
        0,
    ),
    Guard(
        "one id for a dead letter",
        "buried twice, a message is in DLQ once",
        (Edit("contracts/dlq.py", "        h.MSG_ID: message_id(stream, sequence, reason),\n", ""),),
        0,
    ),
    Guard(
        "refused child is told",
        "the batch of a child that is refused hears of it",
        (Edit(HANDS, "await self._rooms.settle.pay_refused(ticket, sequence)", "pass"),),
        0,
    ),
    Guard(
        "nothing settles after a reconnect",
        "an ack or nak that was on its way when the connection was cut is not sent on the next one",
        (
            Edit(
                CLIENT,
                """        if cuts == self._cuts:
            self._settle(delivery, settle)
""",
                """        if cuts != self._cuts:
            self.__dict__.setdefault("unsent", []).append((delivery, settle))
            return
        self._settle(delivery, settle)
""",
            ),
            Edit(
                CLIENT,
                """        self._online.set()
        for puller in self._pullers:
            puller.ask()
""",
                """        self._online.set()
        for delivery, settle in self.__dict__.pop("unsent", []):
            self._settle(delivery, settle)
        for puller in self._pullers:
            puller.ask()
""",
            ),
        ),
        82,
    ),
    Guard(
        "moved before ack",
        "a message that goes to the tail of its queue is stored there before it is acknowledged",
        (
            Edit(
                ENDING,
                "return job, (Move(stimulus.event_id, job.run),)",
                "return job, (Ack(), Move(stimulus.event_id, job.run))",
            ),
        ),
        133,
    ),
    Guard(
        "one id for a copy",
        "moved twice for one `retrying`, a message is stored once",
        (Edit("workers/runtime/reissue.py", "        h.MSG_ID: message_id,\n", ""),),
        133,
    ),
    Guard(
        "a copy names the origin",
        "a message that was moved is the log's own, and no stranger's",
        (Edit(HANDS, "origin=ticket.origin,", "origin=None,"),),
        13,
    ),
)
