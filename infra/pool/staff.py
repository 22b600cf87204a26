"""Whom a profile employs: its size kept, the dead replaced, the worn let go, spares held ready.

An actor's way: started ──ready──▶ on the bench ──employed──▶ at the desk, where calls reach it ──▶ struck off, because
it died or was killed, or parted with: then it takes nothing new and goes once it is idle. It is killed, it is gone, and
only then end the calls that it took along (`tenure`), so whoever sees `Gone` knows that nothing of them runs any more.

One task decides, again after every change: `_arrange` puts the actors that there are where they are needed, `_recruit`
starts those that are missing. There are never more at a time than the profile's greatest size and its spares.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections import deque
from typing import Any, Literal, Protocol

import anyio
from anyio.abc import TaskGroup

from contracts.errors import ErrorInfo
from infra.pool.actor import Spawner, lost
from infra.pool.base import ConfigError, PoolEvent, PoolListener, Profile
from infra.pool.circuit import Streak
from infra.pool.execution import Berth
from infra.pool.heartbeat import Heartbeat
from infra.pool.states import ActorState, count
from infra.pool.tenure import attend, started

__all__ = ["Desk", "Staff"]

_Word = Literal["initialized", "employed", "failed", "restarted", "retired"]

_log = logging.getLogger("jetray.pool")


class Desk(Protocol):
    """Where calls reach actors."""

    def enter(self, berth: Berth) -> None:
        """It takes calls from now on."""
        ...

    def close(self, berth: Berth) -> None:
        """It takes nothing new. Said of actors at the desk alone."""
        ...

    def leave(self, berth: Berth) -> None:
        """It is no more, whether it ever was at the desk or not."""
        ...

    def load(self, berth: Berth) -> int:
        """Slots held on it."""
        ...

    def alone(self, berth: Berth) -> bool:
        """Whether an exclusive call has it."""
        ...


class Staff:
    """One profile's actors."""

    def __init__(self, profile: Profile, spawner: Spawner, desk: Desk, *, gateway: str) -> None:
        self.size = profile.min_actors or profile.actors
        """How many are to be at the desk."""
        self.refusal: ConfigError | None = None
        """Why this profile can run nothing, found before any of its actors was ready."""
        self._profile = profile
        self._spawner = spawner
        self._desk = desk
        self._prefix = f"jetray-{gateway}-{profile.name}"
        self._numbers = itertools.count(1)
        # In order, not sets: what is looked at in the order of addresses happens otherwise each time.
        self._all: dict[Berth, None] = {}
        self._starting: dict[Berth, anyio.CancelScope] = {}
        self._bench: list[Berth] = []
        self._serving: dict[Berth, None] = {}
        self._worn: list[Berth] = []
        """Serving, and to be let go as soon as another can stand in."""
        self._vacant: deque[Berth] = deque()
        """The dead whose places nobody has taken yet."""
        self._starts = Streak()
        self._deaths = Streak()
        self._proven = False
        self._created = False
        self._halted = False
        self._news = anyio.Event()
        self._tasks: TaskGroup
        self._tell: PoolListener

    def keep(self, tasks: TaskGroup, tell: PoolListener) -> None:
        """Keep the actors in `tasks` until that is cancelled. If they cannot be, cancel it and say why in `refusal`."""
        self._tasks = tasks
        self._tell = tell
        tasks.start_soon(self._supervise, name=f"actors of {self._profile.name}")

    def resize(self, actors: int) -> int:
        """Have so many at the desk, soon: between one and the profile's greatest size. How many that is."""
        self.size = max(1, min(actors, self._profile.actors))
        self._wake()
        return self.size

    def report(self) -> dict[str, Any]:
        """Sizes, the circuit, and how many actors are in each state."""
        profile = self._profile
        return {
            "size": self.size,
            "min_actors": profile.min_actors or profile.actors,
            "actors": profile.actors,
            "spares": profile.spares,
            "circuit": "open" if self._starts.open else "closed",
            **count(berth.state for berth in self._all),
        }

    def part(self, berth: Berth, reason: str) -> None:
        """Have it take nothing new, and go once it is idle."""
        if berth.parting or berth.error is not None:
            return
        berth.parting = reason
        berth.become(ActorState.DRAINING)
        self._off_duty(berth)
        self._desk.close(berth)
        if not self._desk.load(berth):
            self.idle(berth)
        self._wake()

    def idle(self, berth: Berth) -> None:
        """Nothing is held on it any more."""
        if berth.parting:
            berth.retired = True
            berth.condemn(lost("ActorRetired", f"{berth.name} was let go: {berth.parting}"))
        else:
            berth.become(ActorState.READY)

    # --- who is needed where ------------------------------------------------------------------------------------------

    async def _supervise(self) -> None:
        while True:
            self._arrange()
            due = self._recruit(anyio.current_time())
            self._news = anyio.Event()
            with anyio.CancelScope(deadline=due):
                await self._news.wait()

    def _arrange(self) -> None:
        """Put the actors that there are where they are needed."""
        while self._bench and (len(self._serving) < self.size or self._worn):
            self._employ(self._bench.pop(0))
        while self._worn and len(self._serving) > self.size:
            self.part(self._worn[0], "recycled")
        if self._worn and len(self._serving) == self.size and not (self._room or self._starting):
            # There is room for a substitute only once it has gone; one after the other.
            self.part(self._worn[0], "recycled")
        while len(self._serving) > self.size:
            self.part(min(self._serving, key=self._desk.load), "scaled_down")
        for berth in self._bench[self._profile.spares :]:
            self.part(berth, "scaled_down")
        for scope in [*self._starting.values()][len(self._starting) + min(0, self._missing) :]:
            scope.cancel()
        while len(self._vacant) > max(0, self.size - len(self._serving)):
            self._vacant.pop()

    def _recruit(self, now: float) -> float:
        """Start those that are missing; when to look again if nothing happens."""
        count = min(self._missing, self._room)
        if count <= 0:
            return math.inf
        due = max(self._starts.next_try, self._deaths.next_try)
        if now < due:
            return due
        if self._starts.open:
            count = 0 if self._starting else 1
        for _ in range(count):
            self._start(now)
        return math.inf

    @property
    def _missing(self) -> int:
        wanted = self.size + self._profile.spares + len(self._worn)
        return wanted - len(self._serving) - len(self._bench) - len(self._starting)

    @property
    def _room(self) -> int:
        return self._profile.actors + self._profile.spares - len(self._all)

    def _employ(self, berth: Berth) -> None:
        self._serving[berth] = None
        if self._vacant:
            before = self._vacant.popleft()
            berth.restarts = before.restarts + 1
            before.successor = berth
            if before.gone:
                self._say_restarted(before)
        if self._halted:
            self._halted = False
            self._tell(PoolEvent(what="resumed", profile=self._profile.name))
        if len(self._serving) == self.size and not self._created:
            self._created = True
            names = tuple(berth.name for berth in self._serving)
            self._tell(PoolEvent(what="created", profile=self._profile.name, actors=names))
        self._desk.enter(berth)
        self._say("employed", berth)

    def _start(self, now: float) -> None:
        name = f"{self._prefix}-{next(self._numbers)}"
        berth = Berth(name, self._spawner.spawn(self._profile, name), began=now, strike=self._struck)
        self._all[berth] = None
        self._starting[berth] = anyio.CancelScope()
        self._tasks.start_soon(self._live, berth, name=name)

    def _off_duty(self, berth: Berth) -> None:
        self._serving.pop(berth, None)
        for where in (self._bench, self._worn):
            if berth in where:
                where.remove(berth)

    def _struck(self, berth: Berth) -> None:
        if berth in self._serving:
            self._vacant.append(berth)
        self._off_duty(berth)
        self._desk.leave(berth)
        # An actor that did some good is replaced at once. One that died over its first call may meet that again.
        if berth.executions or berth.on_purpose or berth.retired:
            self._deaths.succeeded()
        else:
            self._deaths.failed(began=berth.began, now=anyio.current_time())
        self._wake()

    def _wake(self) -> None:
        self._news.set()

    # --- one actor ----------------------------------------------------------------------------------------------------

    async def _live(self, berth: Berth) -> None:
        """From its start to its end."""
        try:
            problem: ErrorInfo | None = None
            with self._starting[berth] as scope:
                problem = await started(berth)
            del self._starting[berth]
            if problem is not None:
                await self._did_not_start(berth, problem)
            elif not scope.cancelled_caught:
                self._did_start(berth)
                await attend(berth, self._listen, self._ended)
        finally:
            self._starting.pop(berth, None)
            del self._all[berth]
            self._wake()

    def _did_start(self, berth: Berth) -> None:
        self._proven = True
        self._starts.succeeded()
        berth.become(ActorState.READY)
        self._say("initialized", berth, duration_s=anyio.current_time() - berth.began)
        self._bench.append(berth)
        self._wake()

    async def _did_not_start(self, berth: Berth, problem: ErrorInfo) -> None:
        berth.become(ActorState.DEAD)
        self._starts.failed(began=berth.began, now=anyio.current_time())
        self._say("failed", berth, error=problem)
        if problem.reason == "config" and not self._proven:
            await self._refuse(problem)
        if self._starts.open and not (self._serving or self._bench or self._halted):
            self._halted = True
            _log.error("profile %s: no actor can start: %s: %s", self._profile.name, problem.type, problem.message)
            self._tell(PoolEvent(what="halted", profile=self._profile.name, error=problem))

    def _ended(self, berth: Berth, jobs: tuple[str, ...], stopped: bool) -> None:
        if stopped or berth.retired:
            reason = "stopped" if stopped else berth.parting
            self._say("retired", berth, reason=reason, executions=berth.executions)
        else:
            self._say("failed", berth, error=berth.error, jobs=jobs, executions=berth.executions)
            self._say_restarted(berth)

    async def _listen(self, berth: Berth) -> None:
        every_s = self._spawner.beat_s
        if every_s is None:
            return
        heartbeat = Heartbeat(berth, silent_s=self._profile.silent_s, excused=lambda: self._desk.alone(berth))
        while True:
            await anyio.sleep(every_s)
            resident = await heartbeat.next()
            limit = self._profile.recycle_rss
            if limit is not None and resident is not None and resident > limit and not berth.parting:
                self._wear(berth)

    def _wear(self, berth: Berth) -> None:
        if berth in self._bench:
            self.part(berth, "recycled")
        elif berth not in self._worn:
            self._worn.append(berth)
        self._wake()

    async def _refuse(self, problem: ErrorInfo) -> None:
        reason = " ".join(problem.message.split())
        self.refusal = ConfigError(f"profile {self._profile.name}: no actor can start: {problem.type}: {reason}")
        self._tasks.cancel_scope.cancel()
        await anyio.sleep_forever()

    def _say_restarted(self, before: Berth) -> None:
        after = before.successor
        if after is not None:
            assert before.error is not None
            reason = before.error.type
            self._say("restarted", after, replaces=before.name, restarts=after.restarts, reason=reason)

    def _say(self, what: _Word, berth: Berth, **more: Any) -> None:
        self._tell(PoolEvent(what=what, profile=self._profile.name, actor=berth.name, **more))
