"""What a gateway offers: its kinds, told in KV `kinds`, one by one and as an AsyncAPI document."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from contracts import asyncapi, catalogue
from contracts.subjects import KINDS
from infra.bus.base import Bus, TooLarge
from workers.kinds.registry import Kind
from workers.runtime import terms
from workers.settings import Settings

__all__ = ["describe_kinds", "tell_kinds"]

log = logging.getLogger("jetray.gateway")


async def tell_kinds(bus: Bus, settings: Settings, kinds: Mapping[str, Kind], *, version: str) -> None:
    """Put each kind, and the whole as an AsyncAPI document, into KV `kinds`."""
    infos = describe_kinds(settings, kinds)
    for info in infos:
        await bus.put(KINDS, info.name, catalogue.encode(info))
    document = asyncapi.document(infos, version=version)
    try:
        await bus.put(KINDS, catalogue.DOCUMENT_KEY, asyncapi.encode(document, indent=None))
    except TooLarge as error:
        log.warning("KV kinds goes without the AsyncAPI document; `jetray asyncapi` prints it: %s", error)


def describe_kinds(settings: Settings, kinds: Mapping[str, Kind]) -> list[catalogue.KindInfo]:
    """What KV `kinds` tells of each."""
    return [_describe(settings, kind) for _, kind in sorted(kinds.items())]


def _describe(settings: Settings, kind: Kind) -> catalogue.KindInfo:
    return catalogue.describe(
        name=kind.name,
        version=kind.version,
        input_type=kind.input_type,
        result_type=kind.result_type,
        id_field=kind.id_field,
        routes=[route.subject for route in settings.routes if route.kind == kind.name],
        profile=None if kind.is_batch else terms.profile(settings, kind),
        deadline_s=terms.deadline_s(settings, kind),
        attempt_deadline_s=None if kind.is_batch else terms.attempt_deadline_s(settings, kind),
        max_attempts=terms.policy(settings, kind).max_attempts,
        batch=kind.is_batch,
        doc=kind.doc,
    )
