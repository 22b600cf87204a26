"""What a council asks of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from workers.kinds.deliberation.terms import Seat, Task

__all__ = ["Ask", "Criticise", "Mark", "Model", "Propose", "Revise"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Propose:
    """Write a proposal."""

    task: Task
    seat: Seat


@dataclass(frozen=True, slots=True, kw_only=True)
class Criticise:
    """Say what is wrong with another agent's proposal, or missing from it."""

    task: Task
    seat: Seat
    author: str
    """Whose proposal it is."""
    proposal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Revise:
    """Write your own proposal again, in answer to a critique."""

    task: Task
    seat: Seat
    proposal: str
    critic: str
    """Whose critique it is."""
    critique: str


Ask = Propose | Criticise | Revise


@dataclass(frozen=True, slots=True)
class Mark:
    """How well a proposal does by one criterion."""

    score: float
    """0 to 1."""
    reason: str


class Model(Protocol):
    """Who answers. A call either answers or raises `ModelError`; there is no answer in place of a missing one."""

    @property
    def provider(self) -> str:
        """Its name in the settings."""
        ...

    def model_for(self, seat: Seat | None) -> str:
        """The name of the model that answers for `seat`; None asks for the one that scores."""
        ...

    async def generate(self, ask: Ask) -> str:
        """The text that `ask` asks for."""
        ...

    async def score(self, task: Task, proposal: str) -> Mapping[str, Mark]:
        """A mark for each criterion of the task's rubric."""
        ...
