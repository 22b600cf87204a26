"""On what terms a kind runs: the operator's word over the kind's own, and the cap over both."""

from __future__ import annotations

import json

import msgspec
from msgspec import Raw, Struct

from infra.pool.base import Profile
from workers.core.retry import RetryPolicy
from workers.core.watermark import Marks
from workers.kinds.deliberation.config import DeliberationConfig
from workers.kinds.registry import Kind
from workers.kinds.workflow import WorkflowsConfig
from workers.settings import Settings

__all__ = ["Terms", "attempt_deadline_s", "configs", "deadline_s", "marks", "of", "policy", "profile", "profiles"]


class Terms(Struct, frozen=True):
    """All of it for one kind, worked out once."""

    profile: str
    policy: RetryPolicy
    deadline_s: float
    attempt_deadline_s: float | None


def of(settings: Settings, kind: Kind) -> Terms:
    """The terms of a kind."""
    return Terms(
        profile=profile(settings, kind),
        policy=policy(settings, kind),
        deadline_s=deadline_s(settings, kind),
        attempt_deadline_s=attempt_deadline_s(settings, kind),
    )


def profile(settings: Settings, kind: Kind) -> str:
    """The profile whose actors run a kind."""
    return settings.of_kind(kind.name).profile or kind.profile


def profiles(settings: Settings) -> list[Profile]:
    """The recipes for actors, as pools take them."""
    return [Profile(name=name, **msgspec.structs.asdict(profile)) for name, profile in settings.profiles.items()]


def deadline_s(settings: Settings, kind: Kind) -> float:
    """Seconds from a run's first start to its end."""
    cap = settings.gateway.batch_deadline_s if kind.is_batch else settings.gateway.deadline_s
    return settings.of_kind(kind.name).deadline_s or min(cap, kind.deadline or cap)


def attempt_deadline_s(settings: Settings, kind: Kind) -> float | None:
    """Seconds that one attempt may take; None where the job's deadline alone ends it."""
    return settings.of_kind(kind.name).attempt_deadline_s or kind.attempt_deadline


def policy(settings: Settings, kind: Kind) -> RetryPolicy:
    """A run's budgets, and how its delays grow: the operator's word for the kind, else the kind's own, else for all."""
    retry, operators = settings.retry, settings.of_kind(kind.name)
    # A kind that asks for longer delays than the operator allows gets the longest; its own cap may only be lower.
    cap_s = operators.retry_cap_s or min(retry.cap_s, kind.retry_cap or retry.cap_s)
    return RetryPolicy(
        max_attempts=operators.max_attempts or kind.max_attempts or retry.max_attempts,
        max_lost=_first(operators.max_lost, kind.max_lost, retry.max_lost),
        base_s=min(cap_s, operators.retry_base_s or kind.retry_base or retry.base_s),
        cap_s=cap_s,
    )


def marks(settings: Settings, kind: str) -> Marks:
    """The depths at which a kind comes under pressure and is out of it: the operator's word for it, else for all."""
    own, for_all = settings.of_kind(kind), settings.watermarks
    return Marks(high=own.high or for_all.high, low=for_all.low if own.low is None else own.low)


def _first(operators: int | None, kinds: int | None, for_all: int) -> int:
    """0 is a word, too."""
    return next(value for value in (operators, kinds, for_all) if value is not None)


def configs(settings: Settings) -> dict[str, Raw]:
    """Kind to what its class takes as its settings, as JSON."""
    found = {name: Raw(json.dumps(kind.config).encode()) for name, kind in settings.kinds.settings.items()}
    council = DeliberationConfig(council=settings.council, councils=settings.councils, providers=settings.providers)
    found["deliberation"] = Raw(msgspec.json.encode(council))
    found["batch"] = found["variant"] = Raw(msgspec.json.encode(WorkflowsConfig(modules=settings.kinds.modules)))
    found["plan"] = Raw(msgspec.json.encode(settings.plan))
    return found
