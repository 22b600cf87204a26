"""What a demo shows: a live table on a terminal, a line for each event otherwise."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final, Self

import anyio
import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from contracts import events
from contracts.agents import AgentResponse
from contracts.deliberation import DeliberationResult
from contracts.events import Cancelled, Completed, Event, Failed, Progress, Retrying, Started
from contracts.plan import PlanResult
from infra.bus.base import Stored

__all__ = ["View"]

REFRESH_S: Final = 0.1
LATEST: Final = 8
"""Lines of the latest events below the table."""

_STATES: Final = {"completed": "green", "failed": "red", "cancelled": "yellow"}


@dataclass(slots=True)
class _Row:
    """A council, as far as its events tell."""

    job_id: str
    state: str = "queued"
    step: str = ""
    done: int = 0
    total: int = 0
    agents: int = 0
    provider: str = ""
    winner: str = ""


class View:
    """Shows what comes; `conclude` once it is over."""

    def __init__(self, *, with_ray: bool, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=True)
        self._rows: dict[str, _Row] = {}
        self.latest: list[str] = []
        """Lines of the latest events, which a terminal shows."""
        self._began = self._latest_s = time.monotonic()
        self._place = "Ray" if with_ray else "a child process"
        self._spinner = Spinner("dots", text=Text(f"starting a gateway, and {self._place} to run its jobs"))
        self._live = Live(console=self._console, auto_refresh=False, transient=True, get_renderable=self._render)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    async def refresh(self) -> None:
        """Draw anew, for ever; does nothing where lines are printed."""
        while self._console.is_terminal:
            self.draw()
            await anyio.sleep(REFRESH_S)

    def draw(self) -> None:
        """Draw what is known now, on a terminal."""
        self._live.refresh()

    def note(self, text: str) -> None:
        """Something that is no event."""
        self._line(text)

    def event(self, event: Event) -> None:
        """An event of a job log."""
        name = events.event_name(event)
        self._line(f"orchestration.{event.kind}.{name}.{event.job_id}", _about(event))
        if event.kind == "deliberation":
            _advance(self._rows.setdefault(event.job_id, _Row(event.job_id)), event, name)
            self._spinner.update(text=Text("councils deliberate"))
        elif isinstance(event, Started):
            self._spinner.update(text=Text(f"waiting for {self._place} to run the councils"))

    def message(self, message: Stored) -> None:
        """A message outside of job logs."""
        if message.subject.startswith("agent.response."):
            self._agent(message.subject, msgspec.json.decode(message.body, type=AgentResponse))
        else:
            self._line(message.subject, _of_gateway(msgspec.json.decode(message.body)))

    def conclude(self, result: PlanResult) -> None:
        """Every council's winner, and the plan's summary."""
        out = self._console
        out.print()
        for council in result.councils:
            if council.winner is None:
                why = "" if council.error is None else f": {council.error.message}"
                out.print(Text(f"{council.role}: {council.outcome}{why}", style="red"))
                continue
            winner = council.winner
            out.print(Text.assemble((council.role, "bold"), f": {winner.agent_id} wins with {winner.score:.4f}"))
            out.print(Text(f"    {winner.reasoning}"))
        completed = sum(council.outcome == "completed" for council in result.councils)
        out.print()
        out.print(
            f"plan {result.plan_id} of story {result.story_id}: {completed} of {len(result.councils)} councils "
            f"completed, {self._latest_s - self._began:.1f} s after nats-server was there"
        )
        providers = {row.provider for row in self._rows.values()} - {""}
        if "offline" in providers:
            out.print(
                "Provider `offline` is no language model: [council] in jetray.toml names a real one.", markup=False
            )

    def _agent(self, subject: str, response: AgentResponse) -> None:
        said = response.phase if response.error is None else f"{response.phase}: {response.error.message}"
        who = f"{response.agent_id} " if response.status != "progress" else ""
        self._line(subject, f"{who}{said} ({response.duration_ms} ms)")
        row = self._rows.setdefault(response.task_id, _Row(response.task_id))
        row.provider = response.provider
        row.agents += response.status == "completed"

    def _line(self, subject: str, about: str = "") -> None:
        self._latest_s = time.monotonic()
        line = f"{self._latest_s - self._began:7.2f} s  {subject}{'  ' if about else ''}{about}"
        if self._console.is_terminal:
            self.latest = [*self.latest[1 - LATEST :], line]
        else:
            self._console.print(line, markup=False)

    def _render(self) -> RenderableType:
        table = Table(box=None, pad_edge=False)
        for title in ("council", "state", "step", "", "agents", "winner"):
            table.add_column(title, no_wrap=True)
        for row in self._rows.values():
            bar = ProgressBar(total=row.total or 1, completed=row.done, width=20)
            state = Text(row.state, style=_STATES.get(row.state, "cyan"))
            table.add_row(row.job_id, state, row.step, bar, str(row.agents or ""), row.winner)
        latest = [Text(line, style="dim", no_wrap=True, overflow="ellipsis") for line in self.latest]
        return Group(self._spinner, *((table,) if self._rows else ()), *latest)


def _advance(row: _Row, event: Event, name: str) -> None:
    match event:
        case Progress():
            row.state, row.step = "running", event.step or row.step
            row.done, row.total = event.done or 0, event.total or 0
            return
        case Completed():
            winner = msgspec.json.decode(event.result, type=DeliberationResult).winner
            row.done, row.winner = row.total, f"{winner.agent_id} {winner.score:.4f}"
    row.state = name


def _about(event: Event) -> str:
    match event:
        case Started():
            return f"on {event.actor}" if event.actor else ""
        case Progress():
            told = (event.step, f"{event.done} of {event.total}" if event.total else None, event.message)
            return ", ".join(part for part in told if part)
        case Completed():
            return f"in {event.duration_ms} ms"
        case Failed() | Retrying():
            return f"{event.error.reason}: {event.error.message}"
        case Cancelled():
            return event.reason
    return ""


def _of_gateway(body: dict[str, Any]) -> str:
    told = (body.get("actor"), f"{body['duration_ms']} ms" if "duration_ms" in body else None, body.get("reason"))
    return " ".join(str(part) for part in told if part)
