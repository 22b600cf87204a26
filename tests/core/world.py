"""A small world for one job: its log, its messages, two gateways that die, and an operator.

The log takes an event only after the sequence that its writer names. A message is handed out, given back, deleted by
an acknowledgement, also by a stale one, as on NATS. Each command of a job is one step, and an append two: between the
server's write and its answer anything may happen.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from msgspec import Raw

from contracts.errors import ErrorInfo
from contracts.events import Cancelled, Completed, DeliveryRef, Event, Failed, Requeued, Started, is_terminal
from contracts.joins import Notice
from tests.core.helpers import after, cancelled, cancelling, error, requeued
from tests.core.laws import check_ack, check_append
from workers.core import job as core
from workers.core.job import Job, Phase
from workers.core.lifecycle import decide
from workers.core.log import EMPTY, LogView, Ticket
from workers.core.retry import RetryPolicy

POLICY: Final = RetryPolicy(max_attempts=2, max_lost=1)
LIMIT_S: Final = 100.0
OUTCOMES: Final = {Completed: "completed", Failed: "failed", Cancelled: "cancelled"}


@dataclass(eq=False)
class Message:
    """A message about the job."""

    sequence: int
    input_sha256: str
    parent: str | None = None
    index: int = 0
    run: int | None = None
    error: ErrorInfo | None = None
    stream: str = "JOBS"
    deliveries: int = 0
    holder: Worker | None = None
    settled: bool = False
    copies: str | None = None
    """The origin that a moved message bears."""

    @property
    def own(self) -> str:
        return f"{self.stream}:{self.sequence}"

    @property
    def origin(self) -> str:
        return self.copies or self.own


@dataclass(eq=False)
class Worker:
    """Whoever carries out what is decided for one delivery."""

    gateway: str
    message: Message
    job: Job
    commands: deque[core.Command] = field(default_factory=deque)
    inbox: deque[core.Stimulus] = field(default_factory=deque)
    sent: tuple[Event, int | None] | None = None
    """An append under way, and where it was stored."""
    opened: set[tuple[int, int]] = field(default_factory=set)
    """Runs and attempts whose `started` is its own."""
    ran: bool = False

    @property
    def runs(self) -> bool:
        return self.job.phase in (Phase.RUNNING, Phase.REPORTING)


class World:
    """Everything that there is. Its methods check what must hold whenever they change something."""

    def __init__(self, *, batch: bool = False) -> None:
        self.batch = batch
        self.now: datetime = after(0)
        self.log: list[tuple[int, Event, str]] = []
        self.messages: list[Message] = []
        self.workers: list[Worker] = []
        self.letters: dict[tuple[str, str], int] = {}
        self.notices: list[tuple[str, Notice]] = []
        self.lives = {"g1": 0, "g2": 0}
        self.last_sequence = 0
        self.purged = False
        self.crowded = False
        self.full = False
        self.was_crowded = False
        self.moves: set[str] = set()

    # Messages

    def publish(self, input_sha256: str = "A", **fields: Any) -> Message:
        message = Message(sequence=len(self.messages) + 1, input_sha256=input_sha256, **fields)
        self.messages.append(message)
        return message

    @property
    def waiting(self) -> list[Message]:
        return [message for message in self.messages if not message.settled and message.holder is None]

    @property
    def handed_out(self) -> list[Message]:
        return [message for message in self.messages if not message.settled and message.holder is not None]

    def deliver(self, message: Message, gateway: str) -> Worker:
        message.deliveries += 1
        ticket = Ticket(
            kind="k",
            job_id="J",
            origin=message.origin,
            delivery=DeliveryRef(message.sequence, message.deliveries),
            input_sha256="" if message.error else message.input_sha256,
            parent=message.parent,
            index=message.index,
            run=message.run,
            correlation_id="c",
            queued=message.stream == "JOBS",
            batch=self.batch,
        )
        job = Job(
            ticket=ticket,
            policy=POLICY,
            gateway=gateway,
            actor=None if self.batch else "a1",
            limit_s=LIMIT_S,
            stored=self.now,
        )
        worker = Worker(self.life(gateway), message, job)
        message.holder = worker
        self.workers.append(worker)
        self.feed(worker, core.Undecodable(message.error) if message.error else core.Delivered())
        return worker

    def spoil(self, pick: int) -> None:
        """A message no longer decodes, as after an upgrade."""
        children = [message for message in self.messages if message.parent is not None]
        if children:
            children[pick % len(children)].error = error("decode")

    def twins(self, message: Message) -> list[Message]:
        """Messages that the same log belongs to: a moved one and its copies."""
        return [other for other in self.messages if other.origin == message.origin]

    # Gateways

    def life(self, gateway: str) -> str:
        return f"{gateway}/{self.lives[gateway]}"

    def crash(self, gateway: str) -> None:
        for worker in [found for found in self.workers if found.gateway == self.life(gateway)]:
            self.end(worker)
        self.lives[gateway] += 1

    def lose_lease(self, worker: Worker) -> None:
        """It notices that it could not renew. What was to be sent is not."""
        if worker.job.phase is not Phase.SETTLED:
            worker.job, _ = decide(worker.job, core.LeaseLost(), now=self.now)
        self.end(worker)

    def end(self, worker: Worker) -> None:
        """Nothing more comes from it; whatever it holds is handed out again."""
        self.workers.remove(worker)
        if worker.message.holder is worker:
            worker.message.holder = None

    def feed(self, worker: Worker, stimulus: core.Stimulus) -> None:
        job = msgspec.structs.replace(worker.job, crowded=self.crowded, full=self.crowded and self.full)
        worker.job, commands = decide(job, stimulus, now=self.now, jitter=0.5)
        worker.commands.extend(commands)
        if worker.job.phase is Phase.SETTLED and not worker.commands:
            self.end(worker)

    @property
    def busy(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.commands or worker.inbox]

    @property
    def running(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.runs]

    def step(self, worker: Worker, *, answer_lost: bool = False) -> None:
        """Carry out one command, or hear the next stimulus."""
        if not worker.commands:
            self.feed(worker, worker.inbox.popleft())
            return
        command = worker.commands[0]
        if isinstance(command, core.Append) and worker.sent is None:
            worker.sent = command.event, self.store(command.event, command.after, worker)
            return
        answer = self.carry_out(worker, command, answer_lost)
        if worker.sent is not None and answer is None:
            worker.sent = None
            return
        worker.sent = None
        worker.commands.popleft()
        if answer is not None:
            assert not worker.commands, "a command that is answered is the last one"
            self.feed(worker, answer)
        elif worker.job.phase is Phase.SETTLED and not worker.commands:
            self.end(worker)

    def carry_out(self, worker: Worker, command: core.Command, answer_lost: bool) -> core.Stimulus | None:
        message = worker.message
        match command:
            case core.Append(event=written, after=expected):
                return self.answer(worker, written, expected, answer_lost)
            case core.Read():
                return core.LogRead(self.view(worker))
            case core.Probe(origin=origin):
                return core.Probed(any(not found.settled for found in self.messages if found.own == origin))
            case core.Run(started=opening, error=why, asked=asked):
                assert any(found is opening for _, found, _ in self.log), "code runs before its started is durable"
                worker.ran = True
                if asked is not None:
                    worker.inbox.append(core.ChildrenEnded({}))
                elif why is not None:
                    worker.inbox.append(core.Raised(why))
            case core.EndChildren():
                assert worker.ran, "children are ended by whoever conducts the batch"
                worker.inbox.append(core.ChildrenEnded({}))
            case core.Move(message_id=message_id, run=run):
                return self.move(worker, message_id, run)
            case core.Bury(reason=reason):
                return core.Buried(self.bury(message, reason))
            case core.Refuse(reason=reason):
                self.refuse(worker, reason)
            case core.Pay(end=end, sequence=sequence):
                self.pay(worker, end, sequence)
            case core.HandOver():
                return self.hand_over(worker)
            case core.Ack():
                self.ack(worker)
            case core.Nak():
                # A stale one hands out what another holds.
                message.holder = None
            case core.Leave():
                assert len(worker.commands) == 1, "something is sent after the last word"
        return None

    def move(self, worker: Worker, message_id: str, run: int) -> core.Stimulus:
        if self.full:
            return core.MovedOn(done=False)
        message = worker.message
        # The server keeps the first of those with one message id.
        if message_id not in self.moves:
            self.moves.add(message_id)
            same = {"parent": message.parent, "index": message.index, "error": message.error}
            self.publish(message.input_sha256, run=run, copies=worker.job.ticket.origin, **same)
        return core.MovedOn(done=True)

    def hand_over(self, worker: Worker) -> core.Stimulus:
        for other in self.workers:
            if other is not worker and other.gateway == worker.gateway and other.ran and other.runs:
                if other.message.holder is other:
                    other.message.holder = None
                other.message, worker.message.holder = worker.message, other
                other.inbox.append(core.Adopted(worker.job.ticket))
                return core.HandedOver()
        return core.LogRead(self.view(worker))

    # The log

    @property
    def tail(self) -> Event | None:
        return self.log[-1][1] if self.log else None

    @property
    def opening(self) -> Started | None:
        found = [written for _, written, _ in self.log if isinstance(written, Started)]
        return found[-1] if found else None

    def view(self, worker: Worker) -> LogView:
        if not self.log:
            return EMPTY
        sequence, tail, writer = self.log[-1]
        openings = [written for _, written, _ in self.log if isinstance(written, (Started, Requeued))]
        return LogView(
            sequence=sequence,
            tail=tail,
            opening=openings[-1] if openings else None,
            mine=writer == worker.gateway,
            running=self.elsewhere(worker, openings[-1] if openings else None),
        )

    def elsewhere(self, worker: Worker, opening: Started | Requeued | None) -> bool:
        """Whether the job runs under another delivery in the same process, or is just about to."""
        here = [other for other in self.workers if other.gateway == worker.gateway]
        runners = [other for other in here if other.ran]
        if runners:
            return runners[-1] is not worker
        openers = [other for other in here if opening and (opening.run, opening.attempt) in other.opened]
        return bool(openers) and openers != [worker]

    def store(self, written: Event, expected: int, worker: Worker | None = None) -> int | None:
        """The sequence under which the server keeps the event, or None where another one is last."""
        if expected != (self.log[-1][0] if self.log else 0):
            return None
        letters = self.letters.values()
        opened = worker.opened if worker else ()
        check_append([event for _, event, _ in self.log], written, worker.job if worker else None, opened, letters)
        # Other jobs write to the same stream.
        self.last_sequence += 2
        self.log.append((self.last_sequence, written, worker.gateway if worker else "operator"))
        if worker is not None and isinstance(written, Started):
            worker.opened.add((written.run, written.attempt))
        return self.last_sequence

    def answer(self, worker: Worker, written: Event, expected: int, lost: bool) -> core.Stimulus | None:
        """What the writer hears; None where it sends the same again."""
        assert worker.sent is not None
        stored = worker.sent[1]
        if stored is not None and not lost:
            return core.Stored(stored, f"e{stored}")
        if not self.log:
            return None if expected == 0 else core.LogRead(EMPTY)
        sequence, tail, _ = self.log[-1]
        if tail is written:
            return core.Stored(sequence, f"e{sequence}")
        return None if sequence == expected else core.LogRead(self.view(worker))

    # What an operator does

    def cancel(self, origin: str = "CONTROL:1", parent: str | None = None) -> None:
        tail = self.tail
        if tail is None:
            self.store(cancelled(time=self.now, stage="queued", origin=origin, parent=parent), 0)
            return
        if is_terminal(tail):
            return
        common = {"time": self.now, "n": tail.n + 1, "run": tail.run, "attempt": tail.attempt, "parent": tail.parent}
        opening = self.opening
        if self.batch and opening is not None and opening.run == tail.run:
            more = cancelling(done=None, origin=tail.origin, **common)
            self.store(more, self.log[-1][0])
            return
        self.store(cancelled(origin=tail.origin, **common), self.log[-1][0])

    def replay(self) -> None:
        tail = self.tail
        assert isinstance(tail, Failed)
        letter = next(found for found, sequence in self.letters.items() if sequence == tail.dlq_sequence)
        original = next(message for message in self.messages if message.own == letter[0])
        digest = "" if original.error else original.input_sha256
        self.store(
            requeued(
                run=tail.run + 1,
                n=tail.n + 1,
                time=self.now,
                origin=tail.origin,
                attempt=tail.attempt,
                parent=tail.parent,
                dlq_sequence=tail.dlq_sequence,
                input_sha256=digest,
            ),
            self.log[-1][0],
        )
        same = {"parent": original.parent, "index": original.index, "error": original.error}
        self.publish(original.input_sha256, run=tail.run + 1, **same)

    def purge(self) -> None:
        tail = self.tail
        assert tail is not None
        for message in self.messages:
            if message.origin == tail.origin and message.stream == "JOBS":
                message.settled, self.purged = True, True

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def rest(self, turns: int) -> None:
        """Nothing more goes wrong, and whatever runs succeeds: within so many turns every message must be settled."""
        for turn in range(turns):
            if self.busy:
                self.step(self.busy[turn % len(self.busy)])
            elif self.running:
                self.running[0].inbox.append(core.Returned(Raw(b"1")))
            elif self.waiting:
                # Whoever comes back waits longest, as with a delay.
                self.deliver(min(self.waiting, key=lambda message: message.deliveries), "g1")
                self.wait(0.1)
            else:
                break
        assert not self.workers
        assert all(message.settled for message in self.messages), "a message comes back for ever"

    # What settles

    def bury(self, message: Message, reason: str) -> int:
        return self.letters.setdefault((message.own, reason), len(self.letters) + 1)

    def refuse(self, worker: Worker, reason: str) -> None:
        ticket = worker.job.ticket
        sequence = self.bury(worker.message, reason)
        if ticket.parent is not None:
            self.notice(ticket.parent, ticket, "refused", 1, sequence)

    def pay(self, worker: Worker, end: Event, sequence: int) -> None:
        assert any(found is end and at == sequence for at, found, _ in self.log), "paid for no end"
        for parent in {end.parent, worker.job.ticket.parent} - {None}:
            assert parent is not None
            self.notice(parent, worker.job.ticket, OUTCOMES[type(end)], end.run, sequence)

    def notice(self, parent: str, ticket: Ticket, outcome: Any, run: int, sequence: int) -> None:
        told = Notice(child="k.J", index=ticket.index, outcome=outcome, run=run, sequence=sequence)
        # The server keeps the first of those with one message id.
        kept = [(known.outcome, known.sequence) for to, known in self.notices if to == parent]
        if (outcome, sequence) not in kept:
            self.notices.append((parent, told))

    def ack(self, worker: Worker) -> None:
        message, ticket = worker.message, worker.job.ticket
        others = [other for other in self.messages if other is not message and not other.settled]
        check_ack(
            [event for _, event, _ in self.log],
            ticket,
            message.own,
            buried=any(origin == message.own for origin, _ in self.letters),
            # By the ticket's origin: one that was adopted bears another's.
            copied=any(other.origin == ticket.origin for other in others),
            waiting={other.run for other in others},
            told={parent for parent, _ in self.notices},
        )
        message.settled = True
        message.holder = None
