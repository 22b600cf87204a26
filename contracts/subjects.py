"""Every subject and stream name, built and taken apart in this one place.

Callers pass tokens. Each builder checks them, since `jobs.*` as a literal publish subject would be stored.
"""

from __future__ import annotations

from typing import Final

from contracts.tokens import is_token, token_or_raise

__all__ = [
    "AGENTS",
    "ARTIFACTS",
    "CONTROL",
    "DLQ",
    "EVENTS",
    "HIGH",
    "JOBS",
    "JOINS",
    "KINDS",
    "PLANNING",
    "WORKERS",
    "WORKERS_KV",
    "agent",
    "cancel",
    "child_notice",
    "dead_letter",
    "drain",
    "event",
    "job",
    "job_log",
    "live",
    "replay",
    "route_durable",
    "started",
    "worker",
]

PLANNING: Final = "PLANNING"
JOBS: Final = "JOBS"
EVENTS: Final = "EVENTS"
AGENTS: Final = "AGENTS"
WORKERS: Final = "WORKERS"
JOINS: Final = "JOINS"
CONTROL: Final = "CONTROL"
DLQ: Final = "DLQ"

KINDS: Final = "kinds"
"""KV bucket: a key per kind, and `asyncapi`."""
WORKERS_KV: Final = "workers"
"""KV bucket: a key per live gateway."""
ARTIFACTS: Final = "artifacts"
"""Object store: files and large results."""

HIGH: Final = "high"
"""Last token of a kind's priority lane."""


def job(kind: str, *, high: bool = False) -> str:
    """`jobs.<kind>`, or its priority lane `jobs.<kind>.high`."""
    subject = f"jobs.{token_or_raise('kind', kind)}"
    return f"{subject}.{HIGH}" if high else subject


def event(kind: str, name: str, job_id: str) -> str:
    """`orchestration.<kind>.<event>.<job_id>`: where one event of a job log is stored."""
    return f"{live(kind, name)}.{token_or_raise('job id', job_id)}"


def live(kind: str, name: str) -> str:
    """`orchestration.<kind>.<event>`: where the server republishes that event, live and at most once."""
    return f"orchestration.{token_or_raise('kind', kind)}.{token_or_raise('event', name)}"


def job_log(kind: str, job_id: str) -> str:
    """The filter that *is* a job's log.

    Every append names exactly this string. In-flight checks on a replicated stream are keyed by the filter's text, so
    two writers with different filters over one log would not exclude each other. Nothing else may build it.
    """
    return f"orchestration.{token_or_raise('kind', kind)}.*.{token_or_raise('job id', job_id)}"


def started(kind: str, job_id: str) -> str:
    """The subject of a log's `started` events, for the second of the two reads that tell a log."""
    return event(kind, "started", job_id)


def agent(topic: str, name: str, job_id: str) -> str:
    """`agent.<topic>.<event>.<job_id>`."""
    return f"agent.{token_or_raise('topic', topic)}.{token_or_raise('event', name)}.{token_or_raise('job id', job_id)}"


def worker(topic: str, name: str, gateway: str) -> str:
    """`workers.<topic>.<event>.<gateway>`."""
    token_or_raise("gateway", gateway)
    return f"workers.{token_or_raise('topic', topic)}.{token_or_raise('event', name)}.{gateway}"


def child_notice(parent: str) -> str:
    """`joins.<kind>.<parent id>` for a parent named `<kind>.<id>`."""
    kind, _, job_id = parent.partition(".")
    return f"joins.{token_or_raise('parent kind', kind)}.{token_or_raise('parent id', job_id)}"


def dead_letter(kind: str, job_id: str) -> str:
    """`dlq.<kind>.<job_id>`."""
    return f"dlq.{token_or_raise('kind', kind)}.{token_or_raise('job id', job_id)}"


def cancel(kind: str, job_id: str) -> str:
    """`control.cancel.<kind>.<job_id>`."""
    return f"control.cancel.{token_or_raise('kind', kind)}.{token_or_raise('job id', job_id)}"


def replay(sequence: int) -> str:
    """`control.replay.<dlq sequence>`."""
    if sequence < 1:
        raise ValueError(f"a dlq sequence is 1 or more, not {sequence}")
    return f"control.replay.{sequence}"


def drain(gateway: str) -> str:
    """`control.drain.<gateway>`."""
    return f"control.drain.{token_or_raise('gateway', gateway)}"


def route_durable(subject: str) -> str:
    """The durable consumer of a routed subject: `jetray-` and the subject with its dots as dashes."""
    return "jetray-" + "".join(c if is_token(c) else {"*": "any", ">": "all"}.get(c, "-") for c in subject)
