"""What a crew asks of its actors, be they Ray actors, child processes or places in this very task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from contracts.calls import Call, Frame, Outcome, Ran
from contracts.errors import ErrorInfo, bounded
from infra.pool.base import Profile

__all__ = ["Actor", "ActorLost", "Spawner", "lost", "no_frames", "unfit"]


class ActorLost(Exception):
    """The actor died, could not start, or cannot be trusted any more."""

    def __init__(self, error: ErrorInfo) -> None:
        super().__init__(error.message)
        self.error = error


class Actor(Protocol):
    """A place where jobs run. It takes calls after `ready` and until it dies or is killed, and never comes back."""

    async def ready(self) -> None:
        """Start it, and return once it takes calls. Raises `ActorLost`."""
        ...

    async def run(self, call: Call, send: Callable[[Frame], None]) -> Outcome:
        """Run the call to its outcome. Raises `ActorLost` where that will never be known."""
        ...

    async def run_many(self, calls: Sequence[Call]) -> Ran:
        """Run calls that send no frames one after the other, to their outcomes. Raises `ActorLost`."""
        ...

    async def cancel(self, job: str) -> bool:
        """Ask the running job `<kind>.<id>` to stop; False where it does not run yet. Raises `ActorLost`."""
        ...

    async def pulse(self) -> int:
        """Return once its loop has answered: the resident memory of its process, in bytes. Raises `ActorLost`."""
        ...

    async def died(self) -> ErrorInfo:
        """Return once it is dead, and say of what."""
        ...

    async def kill(self) -> None:
        """End it, whatever state it is in. Nothing of it runs any more on return. May be called again."""
        ...


class Spawner(Protocol):
    """Makes actors."""

    def open(self) -> AbstractAsyncContextManager[None]:
        """What all actors stand on, as long as any of them lives. Raises `ConfigError`."""
        ...

    def spawn(self, profile: Profile, name: str) -> Actor:
        """A new actor, not started yet."""
        ...

    def concurrency(self, profile: Profile) -> int:
        """Shared jobs that one actor takes at a time."""
        ...

    @property
    def beat_s(self) -> float | None:
        """Between two heartbeats of an actor; None for actors that need none."""
        ...


def no_frames(frame: Frame) -> None:
    """Where frames of a job go that cannot send any."""
    raise TypeError("a kind that takes no context cannot send frames")


def lost(name: str, message: str) -> ErrorInfo:
    """What ran the job died: another attempt may fare better."""
    return ErrorInfo(reason="lost", type=name, message=bounded(message), retryable=True)


def unfit(name: str, message: str) -> ErrorInfo:
    """The operator's settings stand in the way: another attempt would not help."""
    return ErrorInfo(reason="config", type=name, message=bounded(message), retryable=False)
