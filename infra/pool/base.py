"""The pool as the runtime sees it: calls go in, frames and one outcome come out.

A pool knows nothing of kinds. It carries a `Call` to a `Host`, which lives where jobs run, and brings back what the
host says. Whatever ends otherwise is `Gone`: the attempt is lost, or its profile is not fit to run anything.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from msgspec import Struct

from contracts.calls import Call, Frame, Outcome, Raised, Ran, Returned
from contracts.errors import ErrorInfo

__all__ = [
    "Batch",
    "ConfigError",
    "Execution",
    "Host",
    "HostSpec",
    "Pool",
    "PoolEvent",
    "PoolListener",
    "PoolLost",
    "Profile",
    "Reservation",
    "Slots",
]


class ConfigError(Exception):
    """The operator's settings keep the pool from starting: one line that says what to do."""


class PoolLost(Exception):
    """What the pool stood on is gone, and this process cannot get another one: one line that says what."""


class Profile(Struct, frozen=True, kw_only=True):
    """An operator's recipe for actors."""

    name: str
    actors: int
    """At most, spares apart."""
    min_actors: int | None = None
    """How many it begins with; None for `actors`. `Pool.resize` changes the size between the two."""
    spares: int = 0
    """Ready beyond the size, to take over at once when one dies."""
    recycle_jobs: int | None = None
    """After so many jobs an actor is replaced; 1 gives each a fresh one."""
    recycle_rss: int | None = None
    """Above so many bytes of resident memory it is, too."""
    silent_s: float = 15.0
    """An actor whose loop does not answer for so long, though it runs no exclusive job, is dead."""
    cpus: float = 1.0
    gpus: float = 0.0
    memory: int = 0
    """Bytes that Ray reserves an actor; 0 reserves nothing."""
    concurrency: int = 1
    """Async jobs that share one actor. A sync job has an actor to itself."""
    runtime_env: dict[str, Any] = {}


class HostSpec(Struct, frozen=True, kw_only=True):
    """How a place where jobs run builds its host: `factory` is `module:attribute`, called with `config`."""

    factory: str
    config: bytes


class Host(Protocol):
    """What runs calls, where jobs run."""

    async def execute(self, call: Call, send: Callable[[Frame], None]) -> Returned | Raised:
        """Run the call to its outcome; frames go to `send`, always from the loop that awaits this."""
        ...

    def cancel(self, job: str) -> bool:
        """Ask the running job `<kind>.<id>` to stop; False where it does not run here."""
        ...


class Execution(Protocol):
    """An attempt on its way."""

    def frames(self) -> AsyncIterator[Frame]:
        """What the job says while it runs; ends with it. At most one reader."""
        ...

    async def outcome(self) -> Outcome:
        """How it ended. Never raises for what the job did."""
        ...

    async def stop(self, grace_s: float) -> None:
        """Ask the job to stop, wait `grace_s`, then kill what runs it. Nothing of it runs any more on return."""
        ...


class Batch(Protocol):
    """Attempts at many jobs on their way, in one call: they run one after the other, in one slot."""

    async def ran(self) -> Ran:
        """How each ended. Where the call dies all are `Gone`, those that had ended too."""
        ...

    async def stop(self, grace_s: float) -> None:
        """Wait `grace_s` for the call to end, then kill what runs it. Nothing of it runs any more on return."""
        ...


class Reservation(Protocol):
    """A slot taken. Whoever holds it must start a call or release it."""

    @property
    def actor(self) -> str:
        """What will run the call."""
        ...

    def start(self, call: Call) -> Execution:
        """Begin the attempt. The slot is free again once the execution has ended."""
        ...

    def start_many(self, calls: Sequence[Call]) -> Batch:
        """Begin attempts at several jobs that send no frames. The slot is free again once all have ended."""
        ...

    def release(self) -> None:
        """Give the slot back unused."""
        ...


class Slots(Struct, frozen=True, kw_only=True):
    """A profile's room for jobs."""

    total: int
    """When all actors are there."""
    ready: int
    """Of the actors that are there now, idle or not."""
    free: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolEvent:
    """Something that really happened to a pool or an actor."""

    what: Literal["created", "initialized", "employed", "failed", "restarted", "retired", "halted", "resumed"]
    """`employed`: it takes calls from now on, which a spare does not.

    `halted`: no actor is left and none can be started; one is tried now and then, until that is `resumed`."""
    profile: str
    actor: str = ""
    actors: tuple[str, ...] = ()
    duration_s: float = 0.0
    error: ErrorInfo | None = None
    jobs: tuple[str, ...] = ()
    """`<kind>.<id>` of each job that it took along."""
    executions: int = 0
    replaces: str = ""
    restarts: int = 0
    reason: str = ""


PoolListener = Callable[[PoolEvent], None]


class Pool(Protocol):
    """Places where jobs run, in profiles."""

    async def serve(self, listener: PoolListener) -> None:
        """Start, and keep actors alive until cancelled; then stop everything. Raises `ConfigError` and `PoolLost`.

        Until a profile's first actor is ready it has no free slot, so whoever waits for one simply waits.
        """
        ...

    def slots(self, profile: str, *, exclusive: bool) -> Slots:
        """Room for jobs now, counted in whole actors for exclusive ones."""
        ...

    def resize(self, profile: str, actors: int) -> int:
        """Have so many actors, or as many as the profile may have at most, and return how many that is.

        Additional ones start at once; those that are too many take nothing new, and go once they are idle.
        """
        ...

    def report(self) -> dict[str, dict[str, Any]]:
        """For eyes: each profile's size, and how many of its actors are in each state."""
        ...

    async def wait_free(self, profile: str, *, exclusive: bool) -> None:
        """Return once there is room."""
        ...

    def reserve_now(self, profile: str, *, exclusive: bool) -> Reservation | None:
        """Take a slot, or a whole actor, if there is one; None where there is none, or others wait for one."""
        ...

    async def reserve(self, profile: str, *, exclusive: bool) -> Reservation:
        """Take a slot, or a whole actor for an exclusive call; waits its turn for one."""
        ...
