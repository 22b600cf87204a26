"""What the server reads in a message's headers before it stores it, in its order; the first objection is the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from infra.bus.base import Refused, WrongSequence

__all__ = ["check_after_duplicates", "check_before_duplicates"]

_OFF: Final[Mapping[str, tuple[int, int, str]]] = {
    "Nats-Batch-Id": (400, 10174, "atomic publish is disabled"),
    "Nats-Incr": (400, 10168, "message counters is disabled"),
    "Nats-TTL": (400, 10166, "per-message TTL is disabled"),
    "Nats-Schedule": (400, 10188, "message schedules is disabled"),
}
"""Headers that ask for what no stream of ours allows. A message that was stored elsewhere may carry them."""


def check_before_duplicates(
    config: Mapping[str, Any], subject: str, headers: Mapping[str, str], last: Callable[[str | None], int]
) -> None:
    """Objections that come before the look for a duplicate. `last` is the last sequence on a filter, None for any."""
    for name, refusal in _OFF.items():
        if name in headers:
            raise Refused(*refusal)
    if headers.get("Nats-Expected-Stream", config["name"]) != config["name"]:
        raise Refused(400, 10060, "expected stream does not match")
    _check_sequence(subject, headers, last)


def check_after_duplicates(config: Mapping[str, Any], headers: Mapping[str, str], last_id: str) -> None:
    """Objections to what is no duplicate."""
    if headers.get("Nats-Expected-Last-Msg-Id", last_id) != last_id:
        raise Refused(400, 10070, f"wrong last msg ID: {last_id}")
    if "Nats-Rollup" in headers and not config["allow_rollup_hdrs"]:
        raise Refused(500, 10111, "rollup not permitted")


def _check_sequence(subject: str, headers: Mapping[str, str], last: Callable[[str | None], int]) -> None:
    expected = headers.get("Nats-Expected-Last-Subject-Sequence")
    # The filter need not cover the subject: the server takes it as it is.
    filter_ = headers.get("Nats-Expected-Last-Subject-Sequence-Subject")
    if expected is not None:
        _compare(expected, last(filter_ or subject))
    elif filter_:
        raise Refused(400, 10193, "missing sequence for expected last sequence per subject")
    expected = headers.get("Nats-Expected-Last-Sequence")
    if expected is not None:
        _compare(expected, last(None))


def _compare(expected: str, found: int) -> None:
    if not expected.isdecimal() or int(expected) != found:
        raise WrongSequence(400, 10071, f"wrong last sequence: {found}")
