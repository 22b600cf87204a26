"""Guards of the log: appends by compare-and-set, and what is read back."""

from __future__ import annotations

from typing import Final

from tests.mutation.guard import Edit, Guard

__all__ = ["GUARDS"]

JOURNAL: Final = "workers/runtime/journal.py"
PARTS: Final = "workers/core/parts.py"
CLIENT: Final = "infra/bus/memory/client.py"

GUARDS: Final = (
    Guard(
        "expected sequence",
        "an event is stored only after the very event that its writer had seen last",
        (
            Edit(
                JOURNAL,
                """        headers[h.EXPECTED_SEQUENCE] = str(after)
        headers[h.EXPECTED_FILTER] = subjects.job_log(event.kind, event.job_id)
""",
                "",
            ),
        ),
        0,
    ),
    Guard(
        "one filter",
        "all events of a log exclude one another, whatever their type",
        (
            Edit(
                JOURNAL,
                "headers[h.EXPECTED_FILTER] = subjects.job_log(event.kind, event.job_id)",
                "headers[h.EXPECTED_FILTER] = subject = subjects.event(event.kind, name, event.job_id)",
            ),
        ),
        0,
    ),
    Guard(
        "own write known by its ce-id",
        "who gets no answer finds its own event in the log, and goes on",
        (Edit(JOURNAL, "if tail.headers.get(h.CE_ID) == write.event_id:", "if False:"),),
        6,
    ),
    Guard(
        "no answer is no success",
        "a write counts as stored when the server, or the log, says so",
        (
            Edit(
                JOURNAL,
                """            except (WrongSequence, NoAnswer):
                answer = await self._who_won(write)
""",
                """            except (WrongSequence, NoAnswer) as error:
                if isinstance(error, NoAnswer):
                    return Written(write.after + 1, write.event_id)
                answer = await self._who_won(write)
""",
            ),
        ),
        4,
    ),
    Guard(
        "reads ask the leader",
        "a follower that is behind may not tell what a log holds",
        (
            Edit(
                CLIENT,
                """            kept = self.server.stream(stream)
            return kept.get(kept.last(subject))
""",
                """            from tests.simulation.replica import Replica

            kept = self.server.stream(stream)
            kept = Replica(kept) if stream == "EVENTS" else kept
            return kept.get(kept.last(subject))
""",
            ),
        ),
        0,
    ),
    Guard(
        "n from the last event",
        "an event is numbered after the one that it follows, whoever wrote that",
        (Edit(PARTS, "n=tail.n,", "n=job.n,"),),
        0,
    ),
    Guard(
        "n of a command's event",
        "a cancel is numbered after the event that it follows",
        (Edit("workers/runtime/cancel.py", '"n": 1 if tail is None else tail.n + 1,', '"n": 1,'),),
        0,
    ),
    Guard(
        "deadline kept",
        "all attempts of a run share the deadline that the first one set",
        (
            Edit(
                "workers/core/opening.py",
                "deadline=deadline or now + timedelta(seconds=job.limit_s),",
                "deadline=now + timedelta(seconds=job.limit_s),",
            ),
        ),
        0,
    ),
    Guard(
        "lost attempts are counted",
        "an attempt that goes down with its actor spends max_lost, in the log",
        (
            Edit(
                "workers/core/ending.py",
                "spent = Spent(attempts=job.spent.attempts, lost=job.spent.lost + 1)",
                "spent = Spent(attempts=job.spent.attempts, lost=job.spent.lost)",
            ),
        ),
        0,
    ),
    Guard(
        "a drain spends nothing",
        "what a gateway gives back because it stops costs the job no attempt",
        (
            Edit(
                "workers/core/ending.py",
                "    job, append = _again(job, error, 0.0, now)\n",
                """    spent = Spent(attempts=job.spent.attempts, lost=job.spent.lost + 1)
    job = msgspec.structs.replace(job, spent=spent)
    job, append = _again(job, error, 0.0, now)
""",
            ),
        ),
        5,
    ),
)
