"""What the tests of kinds share."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from contracts.agents import AgentResponse
from contracts.calls import Call, Emitted, Frame, Raised, Reported, Returned
from contracts.deliberation import Deliberation, DeliberationResult
from workers.kinds.context import JobContext
from workers.kinds.deliberation.config import Council as CouncilSettings
from workers.kinds.deliberation.council import Council
from workers.kinds.deliberation.providers.base import Ask, Mark
from workers.kinds.deliberation.reports import Reports
from workers.kinds.deliberation.terms import Seat, Task, Terms, settle
from workers.kinds.host import KindHost
from workers.kinds.registry import Kind, load


def call(kind: str, value: Any = None, *, timeout_s: float = 60.0, job_id: str = "T1") -> Call:
    """A call of `kind` with `value` as its input."""
    return Call(
        kind=kind,
        job_id=job_id,
        run=1,
        attempt=1,
        input=msgspec.json.encode(value),
        deadline=time.time() + timeout_s,
        timeout_s=timeout_s,
        exclusive=False,
        streams=True,
    )


def host_of(*kinds: Any, **configs: Any) -> KindHost:
    """A host that knows these kinds, each with its part of `configs`."""
    raw = {name: msgspec.Raw(msgspec.json.encode(config)) for name, config in configs.items()}
    return KindHost({kind.name: kind for kind in kinds}, raw)


def deliberation_host(config: Mapping[str, Any] | None = None) -> KindHost:
    """A host that knows the kinds that ship, with the settings of `deliberation`."""
    kinds: dict[str, Kind] = load([])
    return host_of(*kinds.values(), **({} if config is None else {"deliberation": config}))


class Heard:
    """The frames of one call, sorted."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def __call__(self, frame: Frame) -> None:
        self.frames.append(frame)

    @property
    def progress(self) -> list[Reported]:
        return [frame for frame in self.frames if isinstance(frame, Reported)]

    @property
    def responses(self) -> list[AgentResponse]:
        """Every `agent.response.*`, after a check that its status is the one in its subject."""
        found = []
        for frame in self.frames:
            if isinstance(frame, Emitted):
                response = msgspec.json.decode(frame.body, type=AgentResponse)
                assert (frame.topic, frame.name) == ("response", response.status)
                found.append(response)
        return found

    def of(self, status: str) -> dict[str, AgentResponse]:
        """Agent id to its one response of this status."""
        found = [response for response in self.responses if response.status == status]
        assert len({response.agent_id for response in found}) == len(found)
        return {response.agent_id: response for response in found}

    @property
    def phases(self) -> list[tuple[str, int]]:
        return [(response.phase, response.round) for response in self.responses if response.status == "progress"]


async def deliberate(host: KindHost, **message: Any) -> tuple[Returned | Raised, Heard]:
    """Run one deliberation in `host`."""
    heard = Heard()
    value = {"task_id": "T1", "task_description": "Cache the catalogue", "role": "DEV", **message}
    return await host.execute(call("deliberation", value), heard), heard


def result_of(outcome: Returned | Raised) -> DeliberationResult:
    """The result that must be there."""
    assert isinstance(outcome, Returned), outcome
    return msgspec.json.decode(outcome.result, type=DeliberationResult)


def error_of(outcome: Returned | Raised) -> Any:
    """The error that must be there."""
    assert isinstance(outcome, Raised), outcome
    return outcome.error


Answer = Callable[[Ask], Awaitable[str]]
Judge = Callable[[str], Awaitable[Mapping[str, Mark]]]


async def echo(ask: Ask) -> str:
    """Names the phase and the agent."""
    return f"{type(ask).__name__} by {ask.seat.agent_id}"


async def fair(proposal: str) -> Mapping[str, Mark]:
    """Half for everything."""
    return {"quality": Mark(0.5, "fair")}


class ScriptedModel:
    """A `Model` whose answers a test writes; it keeps what it was asked."""

    def __init__(self, answer: Answer = echo, judge: Judge = fair) -> None:
        self._answer = answer
        self._judge = judge
        self.asked: list[Ask] = []
        self.judged: list[str] = []

    @property
    def provider(self) -> str:
        return "scripted"

    def model_for(self, seat: Seat | None) -> str:
        return (seat.model if seat is not None else None) or "scripted-1"

    async def generate(self, ask: Ask) -> str:
        self.asked.append(ask)
        return await self._answer(ask)

    async def score(self, task: Task, proposal: str) -> Mapping[str, Mark]:
        self.judged.append(proposal)
        return await self._judge(proposal)


def council_of(model: ScriptedModel, settings: CouncilSettings | None = None, **message: Any) -> tuple[Council, Heard]:
    """A council of scripted agents `a`, `b`, `c`, … that is judged by `quality` alone."""
    heard = Heard()
    agents = [{"id": name} for name in message.pop("names", "abc")]
    value = {
        "task_id": "T1",
        "task_description": "Cache the catalogue",
        "role": "DEV",
        "agents": agents,
        "rubric": {"quality": 1},
        **message,
    }
    terms: Terms = settle(msgspec.convert(value, Deliberation), settings or CouncilSettings())
    context = JobContext(call("deliberation"), heard)
    return Council(terms, model, Reports(context, terms, model)), heard
