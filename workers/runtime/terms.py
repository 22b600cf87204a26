"""On what terms a kind runs: the operator's word over the kind's own, and the cap over both."""

from __future__ import annotations

import json

import msgspec
from msgspec import Raw

from workers.core.retry import RetryPolicy
from workers.kinds.deliberation.config import DeliberationConfig
from workers.kinds.registry import Kind
from workers.settings import Settings

__all__ = ["configs", "deadline_s", "policy", "profile"]


def profile(settings: Settings, kind: Kind) -> str:
    """The profile whose actors run a kind."""
    return settings.of_kind(kind.name).profile or kind.profile


def deadline_s(settings: Settings, kind: Kind) -> float:
    """Seconds from a run's first start to its end."""
    cap = settings.gateway.batch_deadline_s if kind.is_batch else settings.gateway.deadline_s
    return settings.of_kind(kind.name).deadline_s or min(cap, kind.deadline or cap)


def policy(settings: Settings, kind: Kind) -> RetryPolicy:
    """A run's budgets, and how its delays grow."""
    retry = settings.retry
    return RetryPolicy(
        max_attempts=settings.of_kind(kind.name).max_attempts or kind.max_attempts or retry.max_attempts,
        max_lost=retry.max_lost,
        base_s=retry.base_s,
        cap_s=retry.cap_s,
    )


def configs(settings: Settings) -> dict[str, Raw]:
    """Kind to what its class takes as its settings, as JSON."""
    found = {name: Raw(json.dumps(kind.config).encode()) for name, kind in settings.kinds.settings.items()}
    council = DeliberationConfig(council=settings.council, councils=settings.councils, providers=settings.providers)
    found["deliberation"] = Raw(msgspec.json.encode(council))
    found["plan"] = Raw(msgspec.json.encode(settings.plan))
    return found
