"""The procedure of a council.

    propose                  every agent, side by side
    for each round:
        criticise            agent i the proposal of agent (i + 1) mod n, among those that stand
        revise               every author that was criticised
    score, rank

A call that fails fails the agent that made it: its proposal no longer stands, and it is asked nothing more. An author
whose critic failed has no critique to answer in that round and keeps its proposal. What a critic said before it failed
still counts. Scores are the council's own calls: a proposal that cannot be scored does not stand either, and its agent
is the one reported as failed. After every phase the agents that stand are counted against the quorum.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import anyio

from contracts.agents import Phase
from contracts.deliberation import Critique, FailedAgent, Ranked, Winner
from contracts.errors import ErrorInfo, bounded
from workers.kinds.deliberation.errors import DeadlineExceeded, Malformed, ModelError, NoQuorum, Overdue
from workers.kinds.deliberation.providers.base import Ask, Criticise, Mark, Model, Propose, Revise
from workers.kinds.deliberation.ranking import Candidate, rank, winner
from workers.kinds.deliberation.reports import Reports
from workers.kinds.deliberation.terms import Seat, Terms

__all__ = ["Council", "Verdict"]

T = TypeVar("T")

_ERROR_BYTES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a council came to."""

    winner: Winner
    ranking: list[Ranked]
    rounds: int
    """Rounds of peer review that took place."""
    failed: list[FailedAgent]


@dataclass(slots=True, kw_only=True)
class _Agent:
    """One agent's part so far."""

    seat: Seat
    proposal: str = ""
    written: tuple[Phase, int] = ("propose", 0)
    """The phase and round in which the proposal got its present text."""
    critiques: list[Critique] = field(default_factory=list)
    marks: Mapping[str, Mark] = field(default_factory=dict)
    seconds: float = 0.0
    """Spent in calls for it, the scoring of its proposal included."""
    error: ErrorInfo | None = None


class Council:
    """One council at work. Used once."""

    def __init__(self, terms: Terms, model: Model, reports: Reports) -> None:
        self._terms = terms
        self._model = model
        self._reports = reports
        self._agents = [_Agent(seat=seat) for seat in terms.seats]
        self._phase: Phase = "propose"
        self._round = 0
        self._rounds_held = 0

    @property
    def standing(self) -> list[_Agent]:
        """The agents that have not failed, in the order of their seats."""
        return [agent for agent in self._agents if agent.error is None]

    async def deliberate(self) -> Verdict:
        """Work to the end. Raises `NoQuorum`."""
        self._reports.began()
        await self._propose()
        for number in range(1, self._terms.rounds + 1):
            if len(self.standing) < 2:
                break
            await self._criticise(number)
            await self._revise(number)
            self._rounds_held = number
        await self._score()
        self._report_completed()
        return self._verdict()

    def give_up(self, error: DeadlineExceeded) -> None:
        """After `deliberate` was cut short: report every agent that has not failed yet as failed by `error`."""
        info = ErrorInfo(reason=error.reason, type=type(error).__name__, message=str(error))
        for agent in self.standing:
            self._fail(agent, info)

    async def _propose(self) -> None:
        async def propose(agent: _Agent) -> None:
            text = await self._write(agent, Propose(task=self._terms.task, seat=agent.seat))
            if text is not None:
                agent.proposal = text

        await self._hold("propose", 0, propose, self.standing)

    async def _criticise(self, number: int) -> None:
        circle = self.standing
        author_of = {id(critic): circle[(i + 1) % len(circle)] for i, critic in enumerate(circle)}

        async def criticise(critic: _Agent) -> None:
            author = author_of[id(critic)]
            ask = Criticise(
                task=self._terms.task, seat=critic.seat, author=author.seat.agent_id, proposal=author.proposal
            )
            text = await self._write(critic, ask)
            if text is not None:
                author.critiques.append(Critique(agent_id=critic.seat.agent_id, round=number, critique=text))

        await self._hold("criticise", number, criticise, circle)

    async def _revise(self, number: int) -> None:
        async def revise(author: _Agent) -> None:
            last = author.critiques[-1]
            ask = Revise(
                task=self._terms.task,
                seat=author.seat,
                proposal=author.proposal,
                critic=last.agent_id,
                critique=last.critique,
            )
            text = await self._write(author, ask)
            if text is not None:
                author.proposal, author.written = text, ("revise", number)

        authors = [agent for agent in self.standing if agent.critiques and agent.critiques[-1].round == number]
        await self._hold("revise", number, revise, authors)

    async def _score(self) -> None:
        async def score(agent: _Agent) -> None:
            marks = await self._call(agent, lambda: self._model.score(self._terms.task, agent.proposal))
            if marks is not None:
                agent.marks = marks

        await self._hold("score", 0, score, self.standing)

    async def _hold(
        self, phase: Phase, number: int, part: Callable[[_Agent], Coroutine[Any, Any, None]], agents: list[_Agent]
    ) -> None:
        """One phase: every agent's part side by side, then a word on it, then the count."""
        self._phase, self._round = phase, number
        began = anyio.current_time()
        async with anyio.create_task_group() as group:
            for agent in agents:
                group.start_soon(part, agent)
        self._reports.phase_ended(phase, number, anyio.current_time() - began, len(self.standing))
        self._count()

    async def _write(self, agent: _Agent, ask: Ask) -> str | None:
        async def written() -> str:
            return self._usable(await self._model.generate(ask))

        return await self._call(agent, written)

    async def _call(self, agent: _Agent, answer: Callable[[], Awaitable[T]]) -> T | None:
        """What the call gives; None where it failed, and the agent with it."""
        began = anyio.current_time()
        try:
            with anyio.move_on_after(self._terms.call_timeout_s):
                return await answer()
            raise Overdue(self._terms.call_timeout_s)
        except ModelError as error:
            failure = error.info()
        finally:
            agent.seconds += anyio.current_time() - began
        self._fail(agent, failure)
        return None

    def _usable(self, text: str) -> str:
        text = text.strip()
        if not text:
            raise Malformed("the answer is empty")
        size = len(text.encode())
        if size > self._terms.answer_bytes:
            limit = self._terms.answer_bytes
            raise Malformed(f"the answer has {size} bytes, the limit is {limit} (setting council.answer_bytes)")
        return text

    def _fail(self, agent: _Agent, error: ErrorInfo) -> None:
        agent.error = error
        self._reports.agent_failed(agent.seat, self._phase, self._round, agent.seconds, error)

    def _count(self) -> None:
        if len(self.standing) >= self._terms.quorum:
            return
        self._report_completed()
        told = "; ".join(
            f"{agent.seat.agent_id}: {agent.error.type}: {bounded(agent.error.message, _ERROR_BYTES)}"
            for agent in self._agents
            if agent.error is not None
        )
        raise NoQuorum(
            f"{len(self.standing)} of {len(self._agents)} agents stand after phase {self._phase}, "
            f"the quorum is {self._terms.quorum}; {told}"
        )

    def _report_completed(self) -> None:
        for agent in self.standing:
            self._reports.agent_completed(agent.seat, *agent.written, agent.seconds, agent.proposal)

    def _verdict(self) -> Verdict:
        rubric = self._terms.task.rubric
        candidates = [
            Candidate(
                agent_id=agent.seat.agent_id, proposal=agent.proposal, critiques=agent.critiques, marks=agent.marks
            )
            for agent in self.standing
        ]
        ranking = rank(candidates, rubric)
        return Verdict(
            winner=winner(ranking, candidates, rubric),
            ranking=ranking,
            rounds=self._rounds_held,
            failed=[
                FailedAgent(agent_id=agent.seat.agent_id, error=agent.error)
                for agent in self._agents
                if agent.error is not None
            ],
        )
