"""What gateways say of themselves: `workers.<topic>.<event>.<gateway>`, and their key in KV `workers`."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from contracts.errors import ErrorInfo, Reason

__all__ = [
    "FLEET_EVENTS",
    "ActiveJob",
    "ActorFailed",
    "ActorInitialized",
    "ActorRestarted",
    "ActorRetired",
    "BackpressureApplied",
    "BackpressureReleased",
    "ControlDone",
    "ControlRefused",
    "FleetEvent",
    "GatewayDraining",
    "GatewayReconnected",
    "GatewayStarted",
    "GatewayStatus",
    "GatewayStopped",
    "IntakeRefused",
    "KindTotals",
    "PoolCreated",
    "PoolResized",
    "PressureReason",
    "Versions",
]

Count = Annotated[int, Meta(ge=0)]
Time = Annotated[datetime, Meta(tz=True)]
"""Always with its offset, and ours is always UTC."""
PressureReason = Literal["depth", "events_full", "dlq_full", "circuit_open"]


def _tag(name: str) -> str:
    """`GatewayStarted` is `gateway.started`, in its subject and in its body."""
    topic, event = re.findall("[A-Z][a-z]+", name)
    return f"{topic}.{event}".lower()


class FleetEvent(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="event", tag=_tag):
    """What every `workers.*` event tells."""

    gateway: str
    time: Time

    @classmethod
    def words(cls) -> tuple[str, str]:
        """The two tokens of its subject after `workers`: topic and event."""
        topic, _, event = str(cls.__struct_config__.tag).partition(".")
        return topic, event


class Versions(Struct, frozen=True, kw_only=True):
    """What a gateway runs on."""

    jetray: str
    python: str
    ray: str | None
    nats_server: str


class GatewayStarted(FleetEvent, frozen=True, kw_only=True):
    """It pulls from now on: batches and commands at once, jobs as soon as there are actors for them."""

    kinds: list[str]
    versions: Versions


class GatewayDraining(FleetEvent, frozen=True, kw_only=True):
    """It pulls no more; running jobs have the grace period."""

    reason: str
    active: Count


class GatewayReconnected(FleetEvent, frozen=True, kw_only=True):
    """It could not reach NATS, or was not answered, and now it can."""

    away_ms: Count
    """From the first call that failed to the first that did not."""


class GatewayStopped(FleetEvent, frozen=True, kw_only=True):
    """Its last word."""

    uptime_ms: Count


class PoolCreated(FleetEvent, frozen=True, kw_only=True):
    """A profile's pool has its actors."""

    profile: str
    actors: list[str]
    cpus: float
    gpus: float
    memory: Count
    slots: Count


class PoolResized(FleetEvent, frozen=True, kw_only=True):
    """A pool grew or shrank."""

    profile: str
    before: Count
    after: Count
    depth: Count


class ActorInitialized(FleetEvent, frozen=True, kw_only=True):
    """An actor is ready."""

    profile: str
    actor: str
    duration_ms: Count


class ActorFailed(FleetEvent, frozen=True, kw_only=True):
    """An actor died, or could not start."""

    profile: str
    actor: str
    error: ErrorInfo
    jobs: list[str]
    """`<kind>.<id>` of each job that it took along."""
    executions: Count
    """Jobs that it had finished."""


class ActorRestarted(FleetEvent, frozen=True, kw_only=True):
    """A new actor stands in a dead one's place."""

    profile: str
    actor: str
    replaces: str
    restarts: Count
    reason: str


class ActorRetired(FleetEvent, frozen=True, kw_only=True):
    """An actor was let go: scaled down, recycled or drained."""

    profile: str
    actor: str
    reason: str
    executions: Count


class BackpressureApplied(FleetEvent, frozen=True, kw_only=True):
    """A kind is over its high watermark at the pool's greatest size, or cannot be worked."""

    kind: str
    depth: Count
    high: Count
    actors: Count
    reason: PressureReason
    waited_ms: Count | None = None
    """For how long messages of the kind have waited, at most; unset where that is not known yet."""


class BackpressureReleased(FleetEvent, frozen=True, kw_only=True):
    """The pressure is off."""

    kind: str
    depth: Count
    low: Count
    lasted_ms: Count
    completed: Count


class IntakeRefused(FleetEvent, frozen=True, kw_only=True):
    """A message was refused because of its id; the log of that id was not touched."""

    kind: str
    job_id: str
    reason: Reason
    dlq_sequence: Count


class ControlDone(FleetEvent, frozen=True, kw_only=True):
    """A command was carried out."""

    command: str
    """The subject that it came on."""
    sequence: Count
    """The command's sequence in `CONTROL`."""
    detail: str


class ControlRefused(FleetEvent, frozen=True, kw_only=True):
    """A command was refused, and why."""

    command: str
    sequence: Count
    reason: str


FLEET_EVENTS: tuple[type[FleetEvent], ...] = (
    GatewayStarted,
    GatewayDraining,
    GatewayStopped,
    GatewayReconnected,
    PoolCreated,
    PoolResized,
    ActorInitialized,
    ActorFailed,
    ActorRestarted,
    ActorRetired,
    BackpressureApplied,
    BackpressureReleased,
    IntakeRefused,
    ControlDone,
    ControlRefused,
)
"""Every `workers.*` event."""


class ActiveJob(Struct, frozen=True, kw_only=True):
    """A job that a gateway holds now."""

    kind: str
    job_id: str
    run: int
    attempt: int
    started: Time
    deadline: Time
    actor: str | None


class KindTotals(Struct, frozen=True, kw_only=True):
    """A kind's figures since the gateway started."""

    active: Count
    completed: Count
    failed: Count
    cancelled: Count
    retried: Count
    average_ms: float
    """Of completed jobs."""
    depth: Count | None
    """Messages waiting plus messages pulled and not acknowledged; null where not known yet."""


class GatewayStatus(Struct, frozen=True, kw_only=True):
    """A gateway's key in KV `workers`, renewed every few seconds. For eyes, never for decisions."""

    gateway: str
    time: Time
    state: Literal["starting", "serving", "draining"]
    uptime_ms: Count
    active: list[ActiveJob]
    kinds: dict[str, KindTotals]
    pools: dict[str, dict[str, Any]]
    """Profile to `size`, `min_actors`, `actors` and `spares`, `circuit` (`closed`, `open`), and how many actors are
    `starting`, `ready`, `busy`, `draining` and `dead`."""
    versions: Versions
