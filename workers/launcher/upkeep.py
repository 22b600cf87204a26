"""`jetray apply` and `jetray asyncapi`: what settings and kinds ask of the bus, and what they offer on it."""

from __future__ import annotations

from contracts import asyncapi
from infra.bus.nats import connect
from workers.kinds.registry import load
from workers.runtime.offer import describe_kinds
from workers.runtime.topology import topology
from workers.settings import Settings, check_kinds

__all__ = ["apply", "document"]


async def apply(settings: Settings, *, only_check: bool) -> list[str]:
    """Create or update streams and consumers; the changes made, or that would be, in words.

    Raises `Foreign`, and `Failure` where there is no server.
    """
    kinds = load(settings.kinds.modules)
    check_kinds(settings, kinds)
    wanted = topology(settings, kinds)
    async with connect(
        settings.nats.url,
        name="jetray apply",
        credentials=settings.nats.credentials,
        inbox_prefix=settings.nats.inbox_prefix,
        wait=False,
    ) as bus:
        changes = await bus.compare(wanted)
        if not only_check:
            await bus.apply(wanted)
    return changes


def document(settings: Settings, version: str) -> str:
    """The AsyncAPI document of the kinds that the settings name, as JSON."""
    kinds = load(settings.kinds.modules)
    check_kinds(settings, kinds)
    found = asyncapi.document(describe_kinds(settings, kinds), version=version, server=settings.nats.url)
    return asyncapi.encode(found).decode()
