"""Guards of commands: cancels, replays, and the answers to them."""

from __future__ import annotations

from typing import Final

from tests.mutation.guard import Edit, Guard

__all__ = ["GUARDS"]

CONTROL: Final = "workers/runtime/control.py"
CANCEL: Final = "workers/runtime/cancel.py"
REPLAY: Final = "workers/runtime/replay.py"

GUARDS: Final = (
    Guard(
        "answer before the command's ack",
        "a command is acknowledged once its answer is stored",
        (
            Edit(
                CONTROL,
                "        # The command's own sequence as the id: answered twice, it is stored once.\n",
                "        await self._settle.ack(delivery)\n",
            ),
        ),
        3,
    ),
    Guard(
        "one id for a command's answers",
        "a command that comes again is answered once",
        (Edit(CONTROL, "message_id=str(sequence)", 'message_id=f"{self._gateway}.{sequence}.{delivery.number}"'),),
        3,
    ),
    Guard(
        "cancel of a job not published",
        "a cancel is remembered in the log of a job whose message has not come yet",
        (
            Edit(
                CONTROL,
                "        meant = partial(",
                """        if view.tail is None:
            raise Refusal("there is no such job")
        meant = partial(""",
            ),
        ),
        24,
    ),
    Guard(
        "cancel older than the run",
        "a cancel that was given before a replay opened the run was meant for the run before",
        (Edit(CANCEL, "            await meant(view)\n", ""),),
        137,
    ),
    Guard(
        "own requeued found again",
        "a replay that comes again finds the run that it opened, and publishes for that",
        (
            Edit(
                REPLAY,
                "if found is not None and found[1].dlq_sequence == letter.sequence:",
                "if False:",
            ),
        ),
        3,
    ),
    Guard(
        "message after requeued",
        "a run that was opened gets its message",
        (
            Edit(
                REPLAY,
                """            return "its replay has ended already"
""",
                """            return "its replay has ended already"
        return "forgot to publish"
""",
            ),
        ),
        0,
    ),
    Guard(
        "an id for each run",
        "the server does not take a run's message for the one of the run before",
        (Edit(REPLAY, 'message_id=f"{kind}.{job_id}.{run}",', 'message_id=f"{kind}.{job_id}",'),),
        1,
    ),
    Guard(
        "the failure that the letter is of",
        "a replay opens a run only where the log ends with the failure that its dead letter tells of",
        (
            Edit(
                REPLAY,
                "if tail is not None and not (isinstance(tail, Failed) and tail.dlq_sequence == letter.sequence):",
                "if False:",
            ),
        ),
        1,
    ),
)
