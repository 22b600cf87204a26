"""How a council fails, as a whole or in one of its agents.

    Fail                    the job has failed
    ├── BadTask             the message asks for a council that cannot be
    ├── Misconfigured       the settings do not allow one, or the provider cannot be used
    ├── NoQuorum            too few agents stand
    └── DeadlineExceeded    `constraints.timeout_seconds` is over

    ModelError              one call failed, and with it the agent that made it
    ├── Unreachable         no answer came
    ├── Rejected            the endpoint answered with an error
    ├── Malformed           the answer cannot be used
    └── Overdue             the call took longer than `council.call_timeout_s`

A `Fail` ends the job. A `ModelError` ends one agent's part in it, and never more by itself.
"""

from __future__ import annotations

from contracts.errors import ErrorInfo, Reason, bounded
from workers.kinds.registry import Fail

__all__ = [
    "BadTask",
    "DeadlineExceeded",
    "Malformed",
    "Misconfigured",
    "ModelError",
    "NoQuorum",
    "Overdue",
    "Rejected",
    "Unreachable",
]


class BadTask(Fail):
    """The message contradicts itself."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="user")


class Misconfigured(Fail):
    """Only the operator can mend it."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="config")


class NoQuorum(Fail):
    """Too few proposals stand."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="quorum")


class DeadlineExceeded(Fail):
    """The deliberation's own time is over."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__(
            f"the deliberation did not end within constraints.timeout_seconds = {timeout_s:g}", reason="deadline"
        )


class ModelError(Exception):
    """One call to a model failed."""

    reason: Reason = "dependency"
    retryable: bool = False

    def info(self) -> ErrorInfo:
        """As subscribers see it."""
        return ErrorInfo(
            reason=self.reason, type=type(self).__name__, message=bounded(str(self)), retryable=self.retryable
        )


class Unreachable(ModelError):
    """No connection, or no answer in time."""

    retryable = True


class Rejected(ModelError):
    """The endpoint answered with an HTTP status that is an error."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status
        self.retryable = status in (408, 409, 429) or status >= 500
        if status in (401, 403, 404):
            # The key, its rights, the model's name or the address: all of them are settings.
            self.reason = "config"


class Malformed(ModelError):
    """The answer is not what was asked for."""


class Overdue(ModelError):
    """The call was given up."""

    reason = "deadline"
    retryable = True

    def __init__(self, timeout_s: float) -> None:
        super().__init__(f"no answer within {timeout_s:g} s (setting council.call_timeout_s)")
