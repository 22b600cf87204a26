"""Streams and consumers as typed data, in the server's own words, and the difference between wanted and found.

Durations are nanoseconds in the server's JSON and seconds here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

__all__ = [
    "BucketSpec",
    "ConsumerSpec",
    "Foreign",
    "Republish",
    "RouteSpec",
    "StreamSpec",
    "Topology",
    "differences",
    "subject_matches",
    "subjects_overlap",
    "united",
]

NANOSECONDS = 1_000_000_000


class Foreign(Exception):
    """A stream has our name and somebody else's subjects, or a routed subject has no stream."""


@dataclass(frozen=True, slots=True)
class Republish:
    """What the server sends on, live and at most once."""

    source: str
    destination: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSpec:
    """One stream."""

    name: str
    subjects: tuple[str, ...]
    description: str = ""
    retention: Literal["limits", "workqueue"] = "limits"
    discard: Literal["old", "new"] = "old"
    discard_per_subject: bool = False
    max_age_s: float = 0.0
    max_bytes: int = -1
    max_msgs_per_subject: int = -1
    deny_delete: bool = False
    rollup: bool = False
    direct: bool = False
    duplicate_window_s: float = 120.0
    replicas: int = 1
    republish: Republish | None = None
    adopts: tuple[str, ...] = ()
    """Patterns of subjects that it may hold beyond its own, as other gateways' kinds in `JOBS`; kept as found."""

    def config(self) -> dict[str, Any]:
        """As the server's JSON."""
        window = min(self.duplicate_window_s, self.max_age_s) if self.max_age_s else self.duplicate_window_s
        config: dict[str, Any] = {
            "name": self.name,
            "description": self.description,
            "subjects": list(self.subjects),
            "retention": self.retention,
            "discard": self.discard,
            "discard_new_per_subject": self.discard_per_subject,
            "max_age": int(self.max_age_s * NANOSECONDS),
            "max_bytes": self.max_bytes,
            "max_msgs": -1,
            "max_msgs_per_subject": self.max_msgs_per_subject,
            "max_msg_size": -1,
            "max_consumers": -1,
            "deny_delete": self.deny_delete,
            "allow_rollup_hdrs": self.rollup,
            "allow_direct": self.direct,
            "duplicate_window": int(window * NANOSECONDS),
            "num_replicas": self.replicas,
            "storage": "file",
        }
        if self.republish is not None:
            config["republish"] = {"src": self.republish.source, "dest": self.republish.destination}
        return config


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketSpec:
    """A KV bucket or an object store: a stream by convention."""

    name: str
    kind: Literal["kv", "objects"]
    description: str = ""
    max_age_s: float = 0.0
    replicas: int = 1

    def stream(self) -> StreamSpec:
        """The stream behind it."""
        if self.kind == "kv":
            return StreamSpec(
                name=f"KV_{self.name}",
                subjects=(f"$KV.{self.name}.>",),
                description=self.description,
                discard="new",
                max_msgs_per_subject=1,
                max_age_s=self.max_age_s,
                deny_delete=True,
                rollup=True,
                direct=True,
                replicas=self.replicas,
            )
        return StreamSpec(
            name=f"OBJ_{self.name}",
            subjects=(f"$O.{self.name}.C.>", f"$O.{self.name}.M.>"),
            description=self.description,
            discard="new",
            max_age_s=self.max_age_s,
            rollup=True,
            direct=True,
            replicas=self.replicas,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerSpec:
    """One durable pull consumer. Never with a `backoff`: its first value would replace `ack_wait`."""

    stream: str
    name: str
    subject: str
    ack_wait_s: float = 60.0
    max_ack_pending: int = 2_000
    deliver: Literal["all", "new"] = "all"

    def config(self) -> dict[str, Any]:
        """As the server's JSON."""
        return {
            "durable_name": self.name,
            "name": self.name,
            "filter_subject": self.subject,
            "ack_policy": "explicit",
            "ack_wait": int(self.ack_wait_s * NANOSECONDS),
            "max_deliver": -1,
            "max_ack_pending": self.max_ack_pending,
            "max_waiting": 512,
            "deliver_policy": self.deliver,
            "replay_policy": "instant",
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSpec:
    """A durable consumer on whichever stream owns a routed subject."""

    name: str
    subject: str
    ack_wait_s: float
    max_ack_pending: int
    deliver: Literal["all", "new"]
    fallback: StreamSpec | None
    """The stream to create where nobody owns the subject; None where that is an error."""

    def on(self, stream: str) -> ConsumerSpec:
        """The consumer, once the owner is known."""
        return ConsumerSpec(
            stream=stream,
            name=self.name,
            subject=self.subject,
            ack_wait_s=self.ack_wait_s,
            max_ack_pending=self.max_ack_pending,
            deliver=self.deliver,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """All that must exist before a gateway pulls."""

    streams: tuple[StreamSpec, ...] = ()
    buckets: tuple[BucketSpec, ...] = ()
    consumers: tuple[ConsumerSpec, ...] = ()
    routes: tuple[RouteSpec, ...] = field(default=())

    def all_streams(self) -> tuple[StreamSpec, ...]:
        """Streams, and the streams behind buckets."""
        return self.streams + tuple(bucket.stream() for bucket in self.buckets)


_FIXED = ("name", "durable_name", "deliver_policy", "ack_policy", "replay_policy", "storage", "retention")
"""What the server cannot change on what exists; a difference in `retention` is an error of its own."""


def differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Field to (found, wanted), for the changeable fields of which we say anything."""
    changed = {}
    for name, want in wanted.items():
        if name in _FIXED:
            continue
        have = found.get(name, _ABSENT.get(name))
        same = sorted(have or ()) == sorted(want) if name == "subjects" else have == want
        if not same:
            changed[name] = (have, want)
    return changed


def united(spec: StreamSpec, found: Mapping[str, Any]) -> list[str]:
    """Subjects of a stream that exists: those `spec` names, and those found that it adopts. Raises `Foreign`."""
    ours = (*spec.subjects, *spec.adopts)
    there = found.get("subjects") or ()
    strangers = [subject for subject in there if not any(subject_matches(pattern, subject) for pattern in ours)]
    if strangers:
        raise Foreign(
            f"stream {spec.name} exists with subjects that are not ours ({', '.join(strangers)}): "
            f"rename it, or give Jetray an account of its own"
        )
    retention = found.get("retention", "limits")
    if retention != spec.retention:
        raise Foreign(f"stream {spec.name} exists with retention {retention}, wanted {spec.retention}")
    adopted = [
        subject
        for subject in there
        if subject not in spec.subjects and any(subject_matches(pattern, subject) for pattern in spec.adopts)
    ]
    return [*spec.subjects, *adopted]


_ABSENT: Mapping[str, Any] = {
    "description": "",
    "discard_new_per_subject": False,
    "max_age": 0,
    "deny_delete": False,
    "allow_rollup_hdrs": False,
    "allow_direct": False,
}
"""The server leaves these out where they are off."""


@lru_cache(maxsize=8192)
def subject_matches(pattern: str, subject: str) -> bool:
    """Whether a subject (which may itself hold wildcards) lies within a pattern."""
    wanted, given = pattern.split("."), subject.split(".")
    for index, token in enumerate(wanted):
        if token == ">":
            return len(given) > index
        if index >= len(given):
            return False
        if token != given[index] and (token != "*" or given[index] == ">"):
            return False
    return len(wanted) == len(given)


def subjects_overlap(one: str, other: str) -> bool:
    """Whether some subject matches both patterns."""
    left, right = one.split("."), other.split(".")
    for a, b in zip(left, right, strict=False):
        if ">" in (a, b):
            return True
        if a != b and "*" not in (a, b):
            return False
    return len(left) == len(right)
