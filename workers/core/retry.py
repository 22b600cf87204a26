"""How long to wait before another attempt: exponential with full jitter, capped."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

__all__ = ["RetryPolicy", "delay_s"]


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """A run's budgets, and how its delays grow."""

    max_attempts: Annotated[int, Meta(ge=1)] = 3
    max_lost: Annotated[int, Meta(ge=0)] = 5
    base_s: Annotated[float, Meta(gt=0)] = 1.0
    cap_s: Annotated[float, Meta(gt=0)] = 300.0


def delay_s(policy: RetryPolicy, failures: int, jitter: float) -> float:
    """Seconds before the attempt after the `failures`-th failure (from 1); `jitter` is uniform in [0, 1)."""
    # 2**64 seconds are beyond any cap, and a float to the power of a large integer may overflow.
    return min(policy.cap_s, policy.base_s * 2.0 ** min(failures - 1, 64)) * jitter
