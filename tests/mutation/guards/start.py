"""Guards of the start table: what a delivery may do, given the log that it finds."""

from __future__ import annotations

from typing import Final

from tests.mutation.guard import Edit, Guard

__all__ = ["GUARDS"]

START: Final = "workers/core/start.py"
OPENING: Final = "workers/core/opening.py"
ENDING: Final = "workers/core/ending.py"

GUARDS: Final = (
    Guard(
        "origin against duplicate",
        "another message under the same id is not taken for a redelivery of the log's own",
        (Edit(START, "if ticket.origin != tail.origin:", "if False:"),),
        0,
    ),
    Guard(
        "input compared",
        "another input under an id that is taken is refused, and leaves the log alone",
        (
            Edit(
                START,
                "if log.opening is not None and log.opening.input_sha256 != ticket.input_sha256:",
                "if False:",
            ),
        ),
        0,
    ),
    Guard(
        "later delivery takes over",
        "an attempt is taken over by a later delivery than its own, not by the same one or an older one",
        (Edit(START, "if ticket.delivery > opening.delivery:", "if True:"),),
        6,
    ),
    Guard(
        "silence of an old delivery",
        "an old delivery of a job that runs elsewhere settles nothing: its ack would take the message away",
        (
            Edit(
                OPENING,
                """        case table.Silence():
            return settled(job, Leave())""",
                """        case table.Silence():
            return settled(job, Ack())""",
            ),
        ),
        14,
    ),
    Guard(
        "probe of the origin",
        "where the log's message is gone, another message of the job takes its place",
        (Edit(START, "        return Probe()\n", "        return Duplicate()\n"),),
        9,
    ),
    Guard(
        "await for another batch",
        "a message that names a batch which the log does not name waits for the end, to tell that batch",
        (
            Edit(START, "return Await() if awaits(ticket, tail) else Duplicate()", "return Duplicate()"),
            Edit(OPENING, "Nak(AWAIT_S) if table.awaits(job.ticket, tail) else Ack()", "Ack()"),
        ),
        9,
    ),
    Guard(
        "adoption keeps the origin",
        "a job that goes on under a newer delivery goes on under the origin that its log names",
        (
            Edit(
                ENDING,
                "ticket = msgspec.structs.replace(job.ticket, delivery=stimulus.ticket.delivery)",
                "ticket = stimulus.ticket",
            ),
        ),
        25,
    ),
    Guard(
        "a job runs once in a gateway",
        "a newer delivery of what runs here is handed to it, and opens no attempt beside it",
        (
            Edit(
                START,
                """    if log.mine and log.running:
        return Adopt()
    return _take_over(ticket, log, tail, max_lost)""",
                "    return _take_over(ticket, log, tail, max_lost)",
            ),
        ),
        21,
    ),
    Guard(
        "older run's message",
        "a message of the run before does not meddle with the run that a replay opened",
        (
            Edit(
                START,
                """    if isinstance(tail, Requeued):
        return Duplicate()
""",
                "",
            ),
        ),
        11,
    ),
    Guard(
        "a run waits for its message",
        "only the message of that very run begins what a replay opened",
        (
            Edit(
                START,
                "if isinstance(tail, Requeued) and ticket.run == tail.run:",
                "if isinstance(tail, Requeued):",
            ),
        ),
        23,
    ),
    Guard(
        "a moved message keeps its place",
        "while a copy waits at the tail of the queue, no twin takes the job over",
        (
            Edit(
                START,
                """    if isinstance(tail, Requeued) or (isinstance(tail, Retrying) and tail.moved):
        return False
    opening = log.opening
    return isinstance(opening, Started) and tail.origin == f"{JOBS}:{opening.delivery.sequence}"
""",
                """    return not isinstance(tail, Requeued)
""",
            ),
        ),
        269,
    ),
    Guard(
        "user code after durable started",
        "no user code runs before its `started` is stored",
        (
            Edit(
                OPENING,
                """    return append(job, event)


def opened(""",
                """    job, commands = append(job, event)
    return msgspec.structs.replace(job, phase=Phase.RUNNING), (Run(event), *commands)


def opened(""",
            ),
        ),
        0,
    ),
)
