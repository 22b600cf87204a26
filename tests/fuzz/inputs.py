"""`contracts.inbound.read`: inputs in all three forms."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import msgspec
from msgspec import Struct
from nats.aio.client import Client

from contracts import codec, errors, headers, tokens
from contracts.codec import Undecodable
from contracts.deliberation import Deliberation
from contracts.inbound import Accepted, InputSpec, Limits, Message, Refused, read
from contracts.plan import Plan
from tests.fuzz.check import Decoder, must
from tests.fuzz.mutate import HEAD_END

__all__ = ["INPUTS", "LOOSE", "OWN_HEAD", "headers_of"]

OWN_HEAD: Final = b"\r\n".join(
    (
        b"Jetray-Deadline: 2.5",
        b"Jetray-Parent: plan.P1",
        b"Jetray-Index: 3",
        b"Jetray-Run: 2",
        b"Jetray-Origin: JOBS:9",
        b"Jetray-Job-Id: P1-DEV",
        b"Jetray-Correlation-Id: c",
        b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )
)
"""All headers of our own."""
LIMITS: Final = Limits(input_bytes=4_096, input_depth=16)
"""Low, so that inputs are over them often."""
_ID_BYTES: Final = 512


def headers_of(head: bytes) -> dict[str, str]:
    """Headers as the client library gives them."""
    parsed: dict[str, str] = Client._parse_header_lines(head)
    return parsed


class Loose(Struct, frozen=True):
    """An input of which nearly everything is one."""

    run_id: str | int | None = None
    anything: Any = None
    scores: dict[str, float] = {}


def _inbound(spec: InputSpec[Any], foreign: bool, data: bytes) -> bool:
    head, _, body = data.partition(HEAD_END)
    found_headers = headers_of(head)
    message = Message(subject="jobs.k", headers=found_headers, body=body, stream="JOBS", sequence=17)
    found = read(message, spec, LIMITS, foreign=foreign)
    must(tokens.is_token(found.job_id), "the job id is no token")
    for text, limit in ((found.subject_id, _ID_BYTES), (found.correlation_id, _ID_BYTES)):
        must(text is None or len(text.encode()) <= limit, "what events repeat is not bounded")
    ours = {name.lower(): value for name, value in found_headers.items()}.get(headers.JOB_ID.lower(), "")
    if isinstance(found, Refused):
        must(
            found.job_id == (ours if tokens.is_token(ours) else "JOBS-17"), "what does not decode takes the id it names"
        )
        must(0 < len(found.error.message.encode()) <= errors.MESSAGE_BYTES, "the error's message is not bounded")
    _order_of_checks(body, found)
    if isinstance(found, Accepted):
        must(not ours or found.job_id == tokens.as_token(ours), "our own id does not hold")
        again = spec.decode(msgspec.json.encode(found.input))
        must(spec.digest(again) == found.input_sha256, "encoded again, the input is another")
    return isinstance(found, Accepted)


def _in_base64(spec: InputSpec[Any], data: bytes) -> bool:
    """The input within a CloudEvent that carries it as base64, whose depth the event's own does not show."""
    event = {"specversion": "1.0", "id": "ce-1", "data_base64": b64encode(data).decode()}
    body = json.dumps(event).encode()
    structured = {"content-type": headers.CLOUDEVENTS_JSON}
    message = Message(subject="s", headers=structured, body=body, stream="JOBS", sequence=17)
    found = read(message, spec, LIMITS, foreign=True)
    try:
        codec.check_depth(data, LIMITS.input_depth)
    except Undecodable as error:
        told = found.error.message if isinstance(found, Refused) else ""
        must(told == str(error) or len(body) > LIMITS.input_bytes, "decoded before its depth was checked")
    return isinstance(found, Accepted)


def _order_of_checks(body: bytes, found: Accepted | Refused) -> None:
    """Size before depth, depth before decoding."""
    reason = found.error.reason if isinstance(found, Refused) else None
    must((reason == "too_large") is (len(body) > LIMITS.input_bytes), "the size is not what decides about too_large")
    if len(body) > LIMITS.input_bytes or body.count(b"[") + body.count(b"{") <= LIMITS.input_depth:
        return
    try:
        codec.check_depth(body, LIMITS.input_depth)
    except Undecodable as error:
        must(isinstance(found, Refused) and found.error.message == str(error), "decoded before its depth was checked")


TASK: Final = {"task_id": "T1", "task_description": "Cache", "role": "DEV", "rubric": {"tests": 1.5}}
APPROVED: Final = {"story_id": "S1", "plan_id": "P1", "approved_by": "r", "timestamp": "2026-11-22T05:00:00Z"}
LOOSE: Final = {"run_id": 7, "anything": [1, 2.5, None, {"deep": [[]]}], "scores": {"a": 1, "b": 0.5}}
ENVELOPE: Final = {
    "event_type": "e",
    "idempotency_key": "key-1",
    "correlation_id": "corr-1",
    "timestamp": "2026-11-22T05:00:00Z",
    "producer": "p",
}


def _forms(value: Mapping[str, Any]) -> list[bytes]:
    """All three forms of a message, with headers in front."""
    body = json.dumps(value).encode()
    event = {"specversion": "1.0", "id": "ce-1", "source": "/s", "type": "t", "correlationid": "c"}
    structured = b"content-type: application/cloudevents+json"
    parts = [
        (b"Nats-Msg-Id: k.T1.1", body),
        (b"x: 1", json.dumps({**ENVELOPE, "payload": value}).encode()),
        (b"ce-specversion: 1.0\r\nce-id: ce-1\r\nce-correlationid: c", body),
        (structured, json.dumps({**event, "data": value}).encode()),
        (structured, json.dumps({**event, "data_base64": b64encode(body).decode()}).encode()),
        (OWN_HEAD, body),
    ]
    return [head + HEAD_END + body for head, body in parts]


_SPECS: Final[dict[str, tuple[InputSpec[Any], bool, Mapping[str, Any]]]] = {
    "deliberation": (InputSpec(Deliberation, id_field="task_id"), False, TASK),
    "plan": (InputSpec(Plan, id_field="plan_id", not_identity=frozenset(["approved_by"])), True, APPROVED),
    "loose": (InputSpec(Loose, id_field="run_id"), False, LOOSE),
    "anything": (InputSpec(Any), True, LOOSE),
}
INPUTS: Final[list[Decoder]] = [
    *(
        Decoder(name=f"inbound.read {name}", samples=_forms(sample), feed=partial(_inbound, spec, foreign))
        for name, (spec, foreign, sample) in _SPECS.items()
    ),
    Decoder(
        name="inbound.read base64",
        samples=[json.dumps(LOOSE).encode()],
        feed=partial(_in_base64, InputSpec(Any)),
    ),
]
