"""Who is struck by what, and when: the faults of a history meet the steps of its gateways."""

from __future__ import annotations

import contextvars
import random
import re
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from contracts import subjects
from infra.bus.base import Delivery, NoAnswer
from infra.bus.memory import Fate
from tests.simulation.faults import Fault, Side
from tests.simulation.history import RARE, History
from tests.simulation.incarnation import Incarnation

__all__ = ["TROUBLE_S", "Strikes"]

TROUBLE_S: Final = 30.0
"""No fault strikes later than this."""
PATIENCE_S: Final = 6.0
"""How long a fault waits for its step before it takes any."""

_NAMELESS: Final = ("pull", "ack", "nak", "renew", "probe", "child", "notice", "answer", "command ack")
"""Steps on subjects that do not end with a job's id."""
_ID: Final = re.compile(rb'"id":"([\w-]+)"')


class Strikes:
    """The faults of a history, until each has struck.

    `command` publishes a command, `letters` are the dead letters, and `delete` deletes the message that a job which has
    not ended began with, and publishes it anew (one whose `.<id>` ends with the argument); its kind and id, if there is
    such a job.
    """

    def __init__(
        self,
        history: History,
        rng: random.Random,
        *,
        note: Callable[[str, str], None],
        command: Callable[[str], None],
        letters: Callable[[], list[int]],
        delete: Callable[[str], set[tuple[str, str]]],
    ) -> None:
        self.pending = list(history.faults)
        self.struck: Counter[tuple[str, str, str]] = Counter()
        """Fault, step and side."""
        self.twice: set[int] = set()
        """Messages of JOBS that went out again while they were leased."""
        self.adrift: set[tuple[str, str]] = set()
        """Jobs whose message was deleted: another message of theirs takes its place, whatever runs."""
        self._history = history
        self._rng = rng
        self._note = note
        self._command = command
        self._letters = letters
        self._delete = delete
        self._victim = ""
        self._group: TaskGroup
        self._outside: contextvars.Context

    def begin(self, group: TaskGroup) -> None:
        """From now on, in this task's context; what lasts a while lasts in `group`."""
        self._group = group
        self._outside = contextvars.copy_context()

    async def come_by(self, who: Incarnation, step: str, side: Side, subject: str) -> None:
        """A gateway comes by a step: what is to strike there strikes. Raises `NoAnswer`."""
        fault = self._meeting(step, side, subject)
        if fault is None:
            return
        self._strikes(fault, who, step, side, subject)
        match fault.kind:
            case "lost request" | "lost reply":
                raise NoAnswer("lost on the way")
            case "slow":
                if step == "renew":
                    who.renew_late(fault.lasts_s)
                await anyio.sleep(fault.lasts_s)
            case _:
                self._strike(fault, who)
                await anyio.lowlevel.checkpoint()
                if who.dead:
                    raise NoAnswer("the gateway is dead")

    def delivered(self, who: Incarnation, delivery: Delivery) -> Fate:
        """A message is on its way to a gateway."""
        self._note(who.label, f"delivery {delivery.number} of {delivery.stream}:{delivery.sequence}")
        fault = None if delivery.stream == subjects.CONTROL else self._meeting("pull", "after", _named(delivery.body))
        if fault is None:
            return "arrives"
        self._strikes(fault, who, "pull", "after", delivery.subject)
        if fault.kind == "lost delivery":
            return "lost"
        if fault.kind == "duplicate":
            self.twice.add(delivery.sequence)
            return "twice"
        self._soon(self._strike_later, fault, who)
        return "arrives"

    def _meeting(self, step: str, side: Side, subject: str) -> Fault | None:
        now = anyio.current_time()
        if now > TROUBLE_S:
            return None
        again = self._victim != "" and subject.endswith(self._victim)
        for fault in self.pending:
            patience_s = TROUBLE_S / 2 if fault.step in RARE else PATIENCE_S
            if fault.meets(step, side, subject, now, patience_s, again=again) and (
                fault.kind != "replay" or self._letters()
            ):
                self.pending.remove(fault)
                return fault
        return None

    def _strikes(self, fault: Fault, who: Incarnation, step: str, side: Side, subject: str) -> None:
        self.struck[fault.kind, step, side] += 1
        self._victim = _job_of(step, subject)
        self._note(who.label, f"*** {fault.kind} {side} {step} ({subject}) {fault.lasts_s:.3f} s")

    def _strike(self, fault: Fault, who: Incarnation) -> None:
        match fault.kind:
            case "crash":
                who.crash()
            case "freeze":
                who.freeze()
                self._soon(self._thaw, who, fault.lasts_s)
            case "partition":
                who.cut()
                self._soon(self._reconnect, who, fault.lasts_s)
            case "kill":
                self._note(who.label, f"killed {who.kill_actor(self._rng)}")
            case "cancel":
                self._command(subjects.cancel(*self._rng.choice(self._history.jobs)))
            case "replay":
                self._command(subjects.replay(self._rng.choice(self._letters())))
            case "drain":
                self._command(subjects.drain(who.name))
            case "deletion":
                self.adrift |= self._delete(fault.about)

    async def _strike_later(self, fault: Fault, who: Incarnation) -> None:
        self._strike(fault, who)

    async def _thaw(self, who: Incarnation, seconds: float) -> None:
        await anyio.sleep(seconds)
        self._note(who.label, "thawed")
        who.thaw()

    async def _reconnect(self, who: Incarnation, seconds: float) -> None:
        await anyio.sleep(seconds)
        if not who.dead:
            self._note(who.label, "reconnected")
            who.mend()

    def _soon(self, function: Callable[..., Any], *arguments: Any) -> None:
        # Not in the context of the gateway that is struck: what thaws it must not be frozen with it.
        self._outside.run(self._start, function, *arguments)

    def _start(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._group.start_soon(function, *arguments)


def _named(body: bytes) -> str:
    """`.<id>` of the job that a message names; nothing where it names none."""
    found = _ID.search(body)
    return "" if found is None else f".{found[1].decode()}"


def _job_of(step: str, subject: str) -> str:
    """`.<job id>` where the subject of a step ends so; else nothing."""
    return "" if step in _NAMELESS else f".{subject.rpartition('.')[2]}"
