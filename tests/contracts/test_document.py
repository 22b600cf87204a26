"""docs/contract.md names everything that the code has, and its examples are real."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from contracts import headers, subjects
from contracts.agents import AgentResponse
from contracts.asyncapi_messages import LOG_EVENTS
from contracts.control import CancelRequest
from contracts.deliberation import Agent, Constraints, Critique, Deliberation, DeliberationResult, Ranked, Winner
from contracts.errors import ErrorInfo, Reason
from contracts.events import Artifact, DeliveryRef, Spent, TrackedFile, event_name
from contracts.fleet import FLEET_EVENTS, PressureReason, Versions
from contracts.inbound import Limits
from contracts.plan import Council, Plan, PlanResult

TEXT = (Path(__file__).parents[2] / "docs" / "contract.md").read_text()
WORDS = set(re.findall(r"[A-Za-z0-9_-]+", TEXT))
STRUCTS = (
    *LOG_EVENTS,
    *FLEET_EVENTS,
    *(AgentResponse, CancelRequest, ErrorInfo, Artifact, DeliveryRef, Spent, TrackedFile, Versions),
    *(Plan, PlanResult, Council, Deliberation, DeliberationResult, Agent, Constraints, Critique, Ranked, Winner),
)


@pytest.mark.parametrize("struct", STRUCTS)
def test_names_every_field(struct):
    assert {field.encode_name for field in msgspec.structs.fields(struct)} <= WORDS


def test_names_every_event_of_a_log_in_a_row_of_its_own():
    rows = re.findall(r"^\| `(\w+)` \|.*\| (yes)? ?\|$", TEXT, re.MULTILINE)
    ends = {name for name, end in rows if end}
    assert {event_name(event) for event in LOG_EVENTS} <= {name for name, _ in rows}
    assert ends == {"completed", "failed", "cancelled"}


def test_has_a_row_for_every_event_of_a_gateway_with_its_fields():
    for event in FLEET_EVENTS:
        row = re.search(rf"^\| `{re.escape('.'.join(event.words()))}` \|(.*)\|$", TEXT, re.MULTILINE)
        assert row is not None, f"no row for {event.words()}"
        own = {field.name for field in msgspec.structs.fields(event)} - {"gateway", "time"}
        assert own <= set(re.findall(r"`(\w+)`", row.group(1)))


@pytest.mark.parametrize("reason", [*get_args(Reason), *get_args(PressureReason)])
def test_names_every_reason(reason):
    assert f"`{reason}`" in TEXT


def test_names_every_header():
    constants = {value for name, value in vars(headers).items() if name.isupper() and isinstance(value, str)}
    names = {value for value in constants if not value.startswith("application/")}
    assert {name.rstrip("-") for name in names} <= {word.rstrip("-") for word in WORDS}


def test_names_every_stream_and_bucket():
    for name in ("PLANNING", "JOBS", "EVENTS", "AGENTS", "WORKERS", "JOINS", "CONTROL", "DLQ"):
        assert f"`{getattr(subjects, name)}`" in TEXT
    for bucket in (subjects.KINDS, subjects.WORKERS_KV):
        assert f"KV `{bucket}`" in TEXT
    assert f"`{subjects.ARTIFACTS}`" in TEXT


def test_the_limits_are_those_of_the_code():
    limits = Limits()
    assert f"{limits.input_bytes // 1024**2} MiB of body, {limits.input_depth} levels" in TEXT


def test_its_message_decodes():
    found = re.search(r"jobs\.deliberation '(\{.*\})'", TEXT)
    assert found is not None
    assert msgspec.json.decode(found.group(1), type=Deliberation).task_id == "T1"
