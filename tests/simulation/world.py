"""A history under way: two gateways on one server, what happens to them from outside, and the way to quiet."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Final

import anyio
import msgspec
from anyio.abc import TaskGroup

from contracts import events, subjects
from contracts.events import Event, Retrying
from contracts.headers import MSG_ID
from infra.bus.base import Delivery, PubAck, Stored
from infra.bus.memory import Fate, MemoryServer
from infra.store.memory import MemoryStore
from tests.simulation.faults import BY_COMMAND, Fault, Side
from tests.simulation.frozen import install
from tests.simulation.history import GATEWAYS, History
from tests.simulation.incarnation import ACK_WAIT_S, Incarnation
from tests.simulation.kinds import reduced
from tests.simulation.ledger import Ledger
from tests.simulation.strikes import TROUBLE_S, Strikes

__all__ = ["World"]

STRAGGLER_S: Final = 1.5
"""While faults are still to strike, a job comes this often, so that there is something to strike."""
QUIET_WITHIN_S: Final = 600.0
STILL_S: Final = 2 * ACK_WAIT_S
"""Quiet must last this long: whatever was forgotten would come back with the end of a lease."""
STORM: Final = 200_000


class _Recorder(MemoryServer):
    """Keeps what it accepted, also after it is deleted."""

    def __init__(self) -> None:
        super().__init__()
        self.accepted: dict[str, dict[int, Stored]] = {subjects.JOBS: {}, subjects.CONTROL: {}}

    def publish(self, subject: str, body: bytes, headers: Mapping[str, str]) -> PubAck:
        done = super().publish(subject, body, headers)
        if done.stream in self.accepted and not done.duplicate:
            stored = self.streams[done.stream].get(done.sequence)
            assert stored is not None
            self.accepted[done.stream][done.sequence] = stored
        return done


class World:
    """A history under way."""

    def __init__(self, history: History, rng: random.Random, *, trace: bool = False) -> None:
        self.history = history
        self.rng = rng
        self.server = _Recorder()
        self.store = MemoryStore()
        self.ledger = Ledger()
        self.incarnations: list[Incarnation] = []
        self.trace: list[str] | None = [] if trace else None
        self.troubles: list[str] = []
        self.strikes = Strikes(
            history, rng, note=self.note, command=self._command, letters=self._letters, delete=self._delete
        )
        self._words = 0
        self._closing = False
        self._group: TaskGroup

    def note(self, who: str, what: str) -> None:
        """Into the trace."""
        if self.trace is not None:
            self.trace.append(f"{anyio.current_time():9.3f} {who:8} {what}")

    def count(self) -> None:
        """Another word between a gateway and the server. More of them than any history needs is a storm."""
        self._words += 1
        if self._words == STORM:
            self.troubles.append(f"a storm: {STORM} words between gateways and server, at {anyio.current_time():.3f} s")
            self._group.cancel_scope.cancel()

    async def come_by(self, who: Incarnation, step: str, side: Side, subject: str) -> None:
        """A gateway comes by a step: what is to strike there strikes. Raises `NoAnswer`."""
        await self.strikes.come_by(who, step, side, subject)

    def delivered(self, who: Incarnation, delivery: Delivery) -> Fate:
        """A message is on its way to a gateway."""
        return self.strikes.delivered(who, delivery)

    def newest(self) -> int:
        """The last sequence of EVENTS."""
        return self.server.streams[subjects.EVENTS].last_sequence

    async def live(self) -> None:
        """From the first publish to quiet, or to the end of patience."""
        install()
        reduced.set(set())
        async with anyio.create_task_group() as group:
            self._group = group
            self.strikes.begin(group)
            for number in range(GATEWAYS):
                group.start_soon(self._supervise, f"gw-{number + 1}")
            for fault in self.strikes.pending:
                if fault.step in BY_COMMAND and not fault.about:
                    group.start_soon(self._provoke, fault)
            await self._until(self._is_well)
            group.start_soon(self._replay_at_once)
            await self._send_all()
            await self._until_struck()
            await self._heal()
            await self._until_quiet()
            group.cancel_scope.cancel()

    async def _supervise(self, name: str) -> None:
        number = 0
        while not self._closing:
            number += 1
            incarnation = Incarnation(self, name, number, self.history.flavour)
            self.incarnations.append(incarnation)
            self._group.start_soon(incarnation.serve)
            await incarnation.over.wait()
            self.note(incarnation.label, "is over")
            if incarnation.error is not None and not incarnation.dead:
                self.troubles.append(f"{incarnation.label} ended with {incarnation.error!r}")
            await anyio.sleep(self.rng.choice((0.1, 1.0, 8.0)) * self.rng.uniform(0.5, 1.5))

    async def _send_all(self) -> None:
        for sending in self.history.sendings:
            await anyio.sleep(max(0.0, sending.at - anyio.current_time()))
            self.note("client", f"{sending.subject} {sending.body!r}")
            self.server.publish(sending.subject, sending.body, sending.headers)

    async def _provoke(self, fault: Fault) -> None:
        """Steps that only a command brings about: give one when a fault waits for it."""
        await anyio.sleep(fault.armed_s)
        if fault.step == "requeued":
            await self._until(lambda: bool(self._letters()))
        for _ in range(fault.count):
            if fault.step == "requeued" and self._letters():
                self._command(subjects.replay(self.rng.choice(self._letters())))
            else:
                self._command(subjects.cancel(*self.rng.choice(self.history.jobs)))
            await anyio.sleep(0.2)

    async def _replay_at_once(self) -> None:
        """An operator sees new dead letters, and replays some of them."""
        known = 0
        while anyio.current_time() < TROUBLE_S and self.history.flavour.replayed:
            await anyio.sleep(self.rng.uniform(0.2, 2.0))
            for sequence in sorted({letter for letter in self._letters() if letter > known}):
                known = sequence
                if self.rng.random() < self.history.flavour.replayed:
                    self._command(subjects.replay(sequence))

    async def _until_struck(self) -> None:
        stragglers = 0
        while self.strikes.pending and anyio.current_time() < TROUBLE_S:
            stragglers += 1
            body = msgspec.json.encode({"id": f"s{stragglers}", "does": "returns"})
            self.server.publish(subjects.job(self.rng.choice(("short", "talk"))), body, {})
            await anyio.sleep(STRAGGLER_S)

    async def _heal(self) -> None:
        """Whatever still lasts ends by itself; then some of what failed is replayed."""
        await self._until(self._is_well)
        letters = self._letters()
        for sequence in dict.fromkeys(self.rng.sample(letters, min(4, len(letters)))):
            self._command(subjects.replay(sequence))

    async def _until(self, holds: Callable[[], bool]) -> None:
        """Return once `holds` does, or patience is over. Time is virtual: looking costs little."""
        with anyio.move_on_after(QUIET_WITHIN_S):
            while not holds():  # noqa: ASYNC110  what is looked at announces nothing
                await anyio.sleep(0.25)

    def _is_well(self) -> bool:
        latest = {incarnation.name: incarnation for incarnation in self.incarnations}
        return len(latest) == GATEWAYS and all(
            it.serving and not it.freezer.frozen and it.bus.connected for it in latest.values()
        )

    def _letters(self) -> list[int]:
        """Dead letters that may be replayed, those of batches twice: there are few of them."""
        kept = self.server.streams.get(subjects.DLQ)
        found = [] if kept is None else [*kept.messages("dlq.*.*")]
        return [letter.sequence for letter in found + [it for it in found if it.subject.startswith("dlq.group.")]]

    def _command(self, subject: str) -> None:
        self.note("client", subject)
        self.server.publish(subject, b"", {})

    async def _until_quiet(self) -> None:
        still, end = 0.0, anyio.current_time() + QUIET_WITHIN_S
        while still < STILL_S:
            unrest = self.unrest()
            if unrest and anyio.current_time() > end:
                self.troubles += [f"no quiet: {what}" for what in unrest]
                break
            still = 0.0 if unrest else still + 1.0
            await anyio.sleep(1.0)
        self._closing = True

    def _delete(self, about: str) -> set[tuple[str, str]]:
        """An operator deletes the message of a job under way, and publishes it anew."""
        jobs = self.server.stream(subjects.JOBS)
        tails: dict[tuple[str, str], Event] = {}
        for message in self.server.stream(subjects.EVENTS).messages():
            event = events.decode(message.body)
            tails[event.kind, event.job_id] = event
        under_way = {key: tail for key, tail in tails.items() if _can_go_on_without(tail)}
        present = {key: jobs.get(int(tail.origin.rpartition(":")[2])) for key, tail in under_way.items()}
        found = [(key, it) for key, it in present.items() if it is not None and f".{key[1]}".endswith(about)]
        if not found:
            return set()
        key, message = self.rng.choice(found)
        self.note("client", f"deletes {subjects.JOBS}:{message.sequence}")
        jobs.remove(message.sequence)
        if not about:
            # Where a certain job is meant, another message of it is there already.
            headers = {name: value for name, value in message.headers.items() if name != MSG_ID}
            self.server.publish(message.subject, message.body, headers)
        return {key}

    def unrest(self) -> list[str]:
        """What is not done yet."""
        found = [what for incarnation in self.incarnations for what in incarnation.leaks()]
        for stream in (subjects.JOBS, subjects.CONTROL):
            kept = self.server.stream(stream).messages()
            found += [f"{stream}:{message.sequence} on {message.subject}" for message in kept]
        return found


def _can_go_on_without(tail: Event) -> bool:
    """Whether the job of this log could go on under another message than its own.

    In its first run alone, as a replay's message is known by its run; and not while nobody can tell whether its own
    message is gone because it was moved.
    """
    return tail.run == 1 and not events.is_terminal(tail) and not (isinstance(tail, Retrying) and tail.moved)
