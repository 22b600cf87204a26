"""Create and update streams and consumers, as raw JSON.

nats-py's typed configurations drop the fields that they do not know; the server refuses those that it does not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from infra.bus.base import Refused
from infra.bus.topology import (
    ConsumerSpec,
    Foreign,
    RouteSpec,
    StreamSpec,
    Topology,
    differences,
    subject_matches,
    united,
)

__all__ = ["Manager"]

NO_STREAM: Final = 10059
NO_CONSUMER: Final = 10014
NO_ROOM: Final = 10047

Api = Callable[[str, Any], Awaitable[dict[str, Any]]]


class Manager:
    """Brings the server's streams and consumers to what a topology says, and says in words what that took."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def apply(self, topology: Topology, *, only_compare: bool = False) -> list[str]:
        """Create or update everything; the changes made, or with `only_compare` those that would be, in words."""
        changes: list[str] = []
        for stream in topology.all_streams():
            changes += await self._stream(stream, only_compare)
        for route in topology.routes:
            changes += await self._route(route, only_compare)
        for consumer in topology.consumers:
            changes += await self._consumer(consumer, only_compare)
        return changes

    async def owner(self, subject: str) -> str | None:
        """The stream that owns a subject."""
        names = (await self._api("STREAM.NAMES", {"subject": subject})).get("streams") or []
        for name in names:
            # The server names streams that share some subject with it; the owner takes them all.
            config = (await self._api(f"STREAM.INFO.{name}", None))["config"]
            if any(subject_matches(own, subject) for own in config.get("subjects") or ()):
                return str(name)
        return None

    async def _stream(self, spec: StreamSpec, only_compare: bool) -> list[str]:
        wanted = spec.config()
        found = await self._config(f"STREAM.INFO.{spec.name}", NO_STREAM)
        if found is None:
            if not only_compare:
                await self._change(f"STREAM.CREATE.{spec.name}", wanted, spec)
            return [f"stream {spec.name}: missing, created" if not only_compare else f"stream {spec.name}: missing"]
        wanted["subjects"] = united(spec, found)
        changed = differences(wanted, found)
        if "max_msgs_per_subject" in changed:
            await self._refuse_loss(spec)
        if changed and not only_compare:
            await self._change(f"STREAM.UPDATE.{spec.name}", {**found, **wanted}, spec)
        return [f"stream {spec.name}: {name} is {have!r}, wanted {want!r}" for name, (have, want) in changed.items()]

    async def _refuse_loss(self, spec: StreamSpec) -> None:
        """A limit on messages a subject that is lowered deletes what is over it at once, whatever `discard` says."""
        info = await self._api(f"STREAM.INFO.{spec.name}", {"subjects_filter": ">"})
        for subject, count in (info["state"].get("subjects") or {}).items():
            if 0 < spec.max_msgs_per_subject < count:
                raise Foreign(
                    f"setting streams.jobs_per_kind {spec.max_msgs_per_subject} would delete messages: "
                    f"{count} wait on {subject} in {spec.name}; let them be worked first, or raise it"
                )

    async def _change(self, verb: str, config: Mapping[str, Any], spec: StreamSpec) -> None:
        try:
            await self._api(verb, config)
        except Refused as error:
            if error.err_code == NO_ROOM:
                raise Foreign(
                    f"stream {spec.name} wants max_bytes {spec.max_bytes}, and the server has not so much left: "
                    f"lower setting streams.{spec.name.lower()}_max_bytes, or raise the server's max_file_store"
                ) from error
            raise Foreign(f"stream {spec.name} cannot be set up as wanted: {error}") from error

    async def _route(self, route: RouteSpec, only_compare: bool) -> list[str]:
        owner = await self.owner(route.subject)
        if owner is not None:
            return await self._consumer(route.on(owner), only_compare)
        if route.fallback is None:
            raise Foreign(
                f"no stream owns the routed subject {route.subject}: create one, or remove the route from the settings"
            )
        changes = await self._stream(route.fallback, only_compare)
        if only_compare:
            return [*changes, f"consumer {route.fallback.name}/{route.name}: missing"]
        return changes + await self._consumer(route.on(route.fallback.name), only_compare)

    async def _consumer(self, spec: ConsumerSpec, only_compare: bool) -> list[str]:
        label = f"consumer {spec.stream}/{spec.name}"
        wanted = spec.config()
        found = await self._config(f"CONSUMER.INFO.{spec.stream}.{spec.name}", NO_CONSUMER)
        if found is None:
            if not only_compare:
                await self._put_consumer(spec, wanted)
            return [f"{label}: missing, created" if not only_compare else f"{label}: missing"]
        if found.get("backoff"):
            raise Foreign(
                f"{label} has a backoff, which would replace its ack_wait: delete the consumer, or its backoff"
            )
        changed = differences(wanted, found)
        if changed and not only_compare:
            kept: dict[str, Any] = {
                name: found[name] for name in ("deliver_policy", "opt_start_seq", "opt_start_time") if name in found
            }
            await self._put_consumer(spec, {**found, **wanted, **kept})
        return [f"{label}: {name} is {have!r}, wanted {want!r}" for name, (have, want) in changed.items()]

    async def _put_consumer(self, spec: ConsumerSpec, config: Mapping[str, Any]) -> None:
        try:
            await self._api(
                f"CONSUMER.DURABLE.CREATE.{spec.stream}.{spec.name}", {"stream_name": spec.stream, "config": config}
            )
        except Refused as error:
            raise Foreign(f"consumer {spec.stream}/{spec.name} cannot be set up as wanted: {error}") from error

    async def _config(self, verb: str, missing: int) -> dict[str, Any] | None:
        try:
            config: dict[str, Any] = (await self._api(verb, None))["config"]
        except Refused as error:
            if error.err_code == missing or (missing == NO_CONSUMER and error.err_code == NO_STREAM):
                return None
            raise
        return config
