"""What all clients share: streams, consumers, what owns which subject, and the clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import anyio

from infra.bus.base import NoSuchSubject, PubAck, Refused
from infra.bus.memory.consumer import Consumer
from infra.bus.memory.stream import Stream
from infra.bus.topology import (
    ConsumerSpec,
    Foreign,
    RouteSpec,
    StreamSpec,
    Topology,
    subjects_overlap,
    united,
)

__all__ = ["MemoryServer"]

MAX_PAYLOAD: Final = 1024 * 1024


class MemoryServer:
    """A server in this process. Everything happens at once, at anyio's current time."""

    def __init__(self, *, max_payload: int = MAX_PAYLOAD, version: str = "memory") -> None:
        self.max_payload = max_payload
        self.version = version
        self.streams: dict[str, Stream] = {}

    def __repr__(self) -> str:
        return f"MemoryServer({', '.join(self.streams) or 'empty'})"

    def stream(self, name: str) -> Stream:
        """A stream, with what is too old forgotten. Raises `Refused`."""
        try:
            stream = self.streams[name]
        except KeyError:
            raise Refused(404, 10059, f"stream not found: {name}") from None
        stream.expire(anyio.current_time())
        return stream

    def consumer(self, stream: str, name: str) -> Consumer:
        """A consumer. Raises `Refused`."""
        try:
            return self.stream(stream).consumers[name]
        except KeyError:
            raise Refused(404, 10014, f"consumer not found: {stream}/{name}") from None

    def publish(self, subject: str, body: bytes, headers: Mapping[str, str]) -> PubAck:
        """Store a message where its subject belongs. Raises `Refused` and its kin."""
        owner = self.owner(subject)
        if owner is None:
            raise NoSuchSubject(503, 0, "no stream takes this subject")
        return self.streams[owner].publish(subject, body, headers, anyio.current_time())

    def pause(self, stream: str, consumer: str, seconds: float) -> None:
        """As `nats consumer pause`; 0 resumes."""
        now = anyio.current_time()
        self.consumer(stream, consumer).pause(now + seconds, now)

    def forget(self, stream: str, subject: str) -> None:
        """Delete what is kept on a subject filter, as age would."""
        kept = self.stream(stream)
        for message in list(kept.messages(subject)):
            kept.remove(message.sequence)

    def apply(self, topology: Topology) -> None:
        """Create or update streams and consumers. Raises `Foreign`."""
        for stream in topology.all_streams():
            self._apply_stream(stream)
        for route in topology.routes:
            self._apply_consumer(route.on(self.owner(route.subject) or self._fall_back(route)))
        for consumer in topology.consumers:
            self._apply_consumer(consumer)

    def owner(self, subject: str) -> str | None:
        """The stream that takes all of a subject, which may hold wildcards."""
        return next((stream.name for stream in self.streams.values() if stream.takes(subject)), None)

    def _apply_stream(self, spec: StreamSpec) -> None:
        found = self.streams.get(spec.name)
        wanted = spec.config()
        if found is not None:
            wanted["subjects"] = united(spec, found.config)
        self._refuse_overlap(spec.name, wanted)
        if found is None:
            self.streams[spec.name] = Stream(wanted)
            return
        if spec.discard_per_subject:
            _refuse_loss(found, spec.max_msgs_per_subject)
        found.update(wanted)

    def _refuse_overlap(self, name: str, wanted: Mapping[str, Any]) -> None:
        for other in self.streams.values():
            if other.name != name and any(
                subjects_overlap(ours, theirs) for ours in wanted["subjects"] for theirs in other.config["subjects"]
            ):
                raise Foreign(
                    f"stream {name} cannot be set up as wanted: its subjects overlap with those of stream {other.name}"
                )

    def _fall_back(self, route: RouteSpec) -> str:
        if route.fallback is None:
            raise Foreign(
                f"no stream owns the routed subject {route.subject}: create one, or remove the route from the settings"
            )
        self._apply_stream(route.fallback)
        return route.fallback.name

    def _apply_consumer(self, spec: ConsumerSpec) -> None:
        stream = self.streams.get(spec.stream)
        if stream is None:
            raise Foreign(f"consumer {spec.stream}/{spec.name} cannot be set up as wanted: there is no such stream")
        wanted = spec.config()
        if stream.config["retention"] == "workqueue":
            _refuse_sharing(stream, wanted)
        found = stream.consumers.get(spec.name)
        if found is None:
            stream.consumers[spec.name] = Consumer(wanted, stream)
        else:
            found.update(wanted, anyio.current_time())


def _refuse_loss(stream: Stream, limit: int) -> None:
    """A lower limit would delete, at once, what was accepted under the old one."""
    for subject, count in stream.counts().items():
        if 0 < limit < count:
            raise Foreign(
                f"stream {stream.name} holds {count} messages on {subject} and is to hold {limit}, "
                f"so the server would delete the oldest: let the queue drain first, or keep the limit"
            )


def _refuse_sharing(stream: Stream, wanted: Mapping[str, Any]) -> None:
    """Of a work queue each message belongs to one consumer."""
    label = f"consumer {stream.name}/{wanted['name']} cannot be set up as wanted"
    if wanted["deliver_policy"] != "all":
        raise Foreign(f"{label}: a work queue's consumer must deliver all")
    for other in stream.consumers.values():
        if other.config["name"] != wanted["name"] and subjects_overlap(
            other.config["filter_subject"], wanted["filter_subject"]
        ):
            raise Foreign(f"{label}: consumer {other.config['name']} of this work queue has the same subjects")
