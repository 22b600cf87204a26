"""Guards of batches: what counts as a child's end, and what happens to children when their batch ends or runs again."""

from __future__ import annotations

from typing import Final

from tests.mutation.guard import Edit, Guard

__all__ = ["GUARDS"]

CONDUCT: Final = "workers/runtime/conduct.py"
NOTICES: Final = "workers/runtime/notices.py"
CHILDREN: Final = "workers/runtime/children.py"
TALLY: Final = "workers/core/tally.py"
RERUN: Final = "workers/core/rerun.py"
ENDING: Final = "workers/core/ending.py"
START: Final = "workers/core/start.py"
OVER: Final = "if isinstance(tail, (Failed, Cancelled)) and log.sequence <= since:"
OF_EARLIER: Final = "return notice.sequence <= self.since"

GUARDS: Final = (
    Guard(
        "refusal of a child that lives",
        "a refused message says nothing of a child whose log names the batch",
        (Edit(NOTICES, "return view.tail is not None and view.tail.parent == self._parent", "return False"),),
        11,
    ),
    Guard(
        "latest end of a child",
        "of several ends of one child the last counts",
        (Edit(TALLY, "if known is not None and _rank(known) >= _rank(notice):", "if known is not None:"),),
        43,
    ),
    Guard(
        "ends of an earlier run",
        "failures and cancels from before the batch's run do not count in it",
        (Edit(TALLY, 'return notice.outcome != "completed" and notice.sequence <= self.since', "return False"),),
        3,
    ),
    Guard(
        "refusals of an earlier run",
        "a child that was refused in the run before is tried again",
        (Edit(TALLY, "return notice.sequence <= self.letters", "return False"),),
        11,
    ),
    Guard(
        "what was completed stays",
        "a child that was completed in an earlier run of the batch is not run again",
        (
            Edit(RERUN, OVER, "if log.sequence <= since:"),
            Edit(TALLY, 'return notice.outcome != "completed" and notice.sequence <= self.since', OF_EARLIER),
        ),
        2,
    ),
    Guard(
        "requeued once",
        "a child that failed in this run of the batch is not requeued again by who takes the batch over",
        (
            Edit(
                RERUN,
                OVER,
                "if isinstance(tail, (Failed, Cancelled)):",
            ),
        ),
        547,
    ),
    Guard(
        "requeued child published again",
        "a child whose run was opened gets its message from whoever takes the batch over",
        (Edit(RERUN, "    if isinstance(tail, Requeued):\n", "    if False:\n"),),
        35,
    ),
    Guard(
        "cancelled child published again",
        "a child that was cancelled after its run was opened, and before its message was published, is told of",
        (Edit(RERUN, "if isinstance(tail, Cancelled) and tail.run > 1 and tail.parent == parent:", "if False:"),),
        63,
    ),
    Guard(
        "a fresh id in a new run",
        "the server does not take a child's second message for the one of the batch's earlier run",
        (Edit(CHILDREN, 'f"{kind}.{job_id}.1.{self._started.run}"', 'f"{kind}.{job_id}.1"'),),
        19,
    ),
    Guard(
        "children end before their batch",
        "what ends a batch early has ended its children before",
        (
            Edit(
                CONDUCT,
                "counts = await self._end_children(reason)",
                "counts = dict(self._tally.counts())",
            ),
        ),
        2,
    ),
    Guard(
        "children end before the cancel",
        "a batch that is being cancelled ends its children before itself",
        (
            Edit(
                CONDUCT,
                'self._post(core.ChildrenEnded(await self._end_children(f"its batch was cancelled: {asked.reason}")))',
                "self._post(core.ChildrenEnded(dict(self._tally.counts())))",
            ),
        ),
        4,
    ),
    Guard(
        "another's child is left alone",
        "a batch does not cancel a job under a child's id that is not its own",
        (
            Edit(
                "workers/runtime/cancel.py",
                "foreign = subject.parent is not None and subject.parent != tail.parent",
                "foreign = False",
            ),
        ),
        30,
    ),
    Guard(
        "cancelling is repeated",
        "every later event of the run says that the batch is being cancelled, and who asked",
        (
            Edit(
                "workers/core/parts.py",
                """        cancelling=job.asked is not None,
        asked=job.asked,
""",
                "",
            ),
        ),
        4,
    ),
    Guard(
        "a foreign progress does not fence",
        "a holder that finds the request to cancel its batch goes on after it",
        (
            Edit(
                ENDING,
                "    return isinstance(tail, Progress) and (tail.run, tail.attempt) == (job.run, job.attempt)",
                "    return False",
            ),
        ),
        28,
    ),
    Guard(
        "a result gives way to a cancel",
        "a batch whose cancel is in the log before its result ends as cancelled",
        (
            Edit(
                ENDING,
                "if job.asked is not None and not known and isinstance(event, Completed):",
                "if False:",
            ),
        ),
        59,
    ),
    Guard(
        "what has moved spends nothing",
        "a batch that has made progress since its last takeover loses nothing by the next",
        (
            Edit(
                START,
                "lost = opening.spent.lost if moved_on else opening.spent.lost + 1",
                "lost = opening.spent.lost + 1",
            ),
        ),
        3,
    ),
    Guard(
        "a batch that is lost ends its children",
        "a batch whose attempts were lost too often is begun once more, to end its children",
        (
            Edit(
                "workers/core/opening.py",
                "if job.ticket.batch and spent.lost <= job.policy.max_lost + CLOSINGS:",
                "if False:",
            ),
        ),
        11,
    ),
)
