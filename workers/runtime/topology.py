"""The streams and consumers that a gateway needs, from its settings and kinds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from contracts import subjects
from infra.bus.topology import BucketSpec, ConsumerSpec, Republish, RouteSpec, StreamSpec, Topology
from workers.settings import Settings, owns_planning

__all__ = ["topology"]

DAY: Final = 86_400.0
IN_HAND: Final = 50_000
"""Room in `max_ack_pending` for what all gateways together have in hand of a lane, beside what waits out a delay there.

Each gateway bounds itself by its credit: (slots + fetched ahead) × messages a slot takes, and a probe. This is the cap
on all of them together, of whom none knows how many there are, and it must not be what binds: a lane at its cap gives
nothing to a gateway with free slots. Room for 8 gateways with 64 slots and batches of 64, half of it again for what
they fetch ahead; a place that nobody takes costs the server nothing.
"""


def topology(settings: Settings, kinds: Iterable[str]) -> Topology:
    """All that must exist before a gateway with these kinds pulls."""
    names = sorted(kinds)
    return Topology(
        streams=(
            _jobs(settings, names),
            _events(settings),
            _telling(subjects.AGENTS, "agent.*.*.*", settings),
            _telling(subjects.WORKERS, "workers.*.*.*", settings),
            _limits(subjects.JOINS, "joins.*.*", 3 * DAY, settings),
            _control(settings),
            _dlq(settings),
        ),
        buckets=(
            BucketSpec(name=subjects.KINDS, kind="kv", replicas=settings.streams.replicas),
            BucketSpec(name=subjects.WORKERS_KV, kind="kv", max_age_s=30.0, replicas=settings.streams.replicas),
            BucketSpec(
                name=subjects.ARTIFACTS,
                kind="objects",
                max_age_s=settings.streams.artifacts_max_age_s,
                replicas=settings.streams.replicas,
            ),
        ),
        consumers=(
            *(consumer for name in names for consumer in _consumers(settings, name)),
            *_control_consumers(settings),
        ),
        routes=tuple(_route(settings, index) for index in range(len(settings.routes))),
    )


def _jobs(settings: Settings, names: list[str]) -> StreamSpec:
    # Named one by one: of an unknown kind the publisher is told, and a full kind refuses alone.
    lanes = tuple(subjects.job(name, high=high) for name in names for high in (False, True))
    return StreamSpec(
        name=subjects.JOBS,
        subjects=lanes,
        description="Job commands: publish jobs.<kind> to start a job.",
        retention="workqueue",
        discard="new",
        discard_per_subject=True,
        max_msgs_per_subject=settings.streams.jobs_per_kind,
        replicas=settings.streams.replicas,
        adopts=("jobs.*", "jobs.*.high"),
    )


def _events(settings: Settings) -> StreamSpec:
    return StreamSpec(
        name=subjects.EVENTS,
        subjects=("orchestration.*.*.*",),
        description="Job logs: lifecycle and results. Forgets by age alone.",
        discard="new",
        max_age_s=settings.streams.events_max_age_s,
        max_bytes=settings.streams.events_max_bytes,
        deny_delete=True,
        replicas=settings.streams.replicas,
        republish=Republish("orchestration.*.*.*", "orchestration.{{wildcard(1)}}.{{wildcard(2)}}"),
    )


def _telling(name: str, subject: str, settings: Settings) -> StreamSpec:
    return _limits(name, subject, DAY, settings)


def _limits(name: str, subject: str, max_age_s: float, settings: Settings) -> StreamSpec:
    return StreamSpec(name=name, subjects=(subject,), max_age_s=max_age_s, replicas=settings.streams.replicas)


def _control(settings: Settings) -> StreamSpec:
    return StreamSpec(
        name=subjects.CONTROL,
        subjects=("control.>",),
        description="Commands: cancel, replay, drain.",
        retention="workqueue",
        max_age_s=DAY,
        replicas=settings.streams.replicas,
    )


def _dlq(settings: Settings) -> StreamSpec:
    return StreamSpec(
        name=subjects.DLQ,
        subjects=("dlq.*.*",),
        description="What could not be done, byte for byte.",
        discard="new",
        max_age_s=settings.streams.dlq_max_age_s,
        max_bytes=settings.streams.dlq_max_bytes,
        replicas=settings.streams.replicas,
    )


def _consumers(settings: Settings, kind: str) -> Iterable[ConsumerSpec]:
    for high in (False, True):
        yield ConsumerSpec(
            stream=subjects.JOBS,
            name=lane_durable(kind, high=high),
            subject=subjects.job(kind, high=high),
            ack_wait_s=settings.gateway.ack_wait_s,
            max_ack_pending=settings.retry.delayed + IN_HAND,
        )


def _control_consumers(settings: Settings) -> Iterable[ConsumerSpec]:
    cancel, replay, drain = control_durables(settings.gateway.name)
    for name, subject in (
        (cancel, "control.cancel.>"),
        (replay, "control.replay.>"),
        (drain, subjects.drain(settings.gateway.name)),
    ):
        yield ConsumerSpec(stream=subjects.CONTROL, name=name, subject=subject, ack_wait_s=settings.gateway.ack_wait_s)


def control_durables(gateway: str) -> tuple[str, str, str]:
    """The durable consumers of `CONTROL` that a gateway pulls from: cancel, replay, and its own drain."""
    return "cancel", "replay", f"drain-{gateway}"


def lane_durable(kind: str, *, high: bool) -> str:
    """The durable consumer of a kind's lane."""
    return f"{kind}-{subjects.HIGH}" if high else kind


def _route(settings: Settings, index: int) -> RouteSpec:
    route = settings.routes[index]
    planning = StreamSpec(
        name=subjects.PLANNING,
        subjects=("planning.>",),
        description="Domain events of planning; made here because nobody had.",
        max_age_s=30 * DAY,
        replicas=settings.streams.replicas,
    )
    return RouteSpec(
        name=route.durable,
        subject=route.subject,
        ack_wait_s=settings.gateway.ack_wait_s,
        max_ack_pending=settings.retry.delayed + IN_HAND,
        deliver=route.deliver,
        fallback=planning if owns_planning(route.subject) else None,
    )
