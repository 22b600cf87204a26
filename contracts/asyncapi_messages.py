"""The messages of the AsyncAPI document: their headers, and their payloads by reference."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any, Final, get_args

from contracts import headers as h
from contracts.agents import AgentResponse
from contracts.asyncapi_schemas import ref
from contracts.catalogue import KindInfo
from contracts.control import CancelRequest
from contracts.errors import Reason
from contracts.events import Completed, Event, LogEvent, event_name
from contracts.fleet import FLEET_EVENTS, GatewayStatus
from contracts.joins import Notice

__all__ = ["HEADER_SCHEMAS", "LOG_EVENTS", "completed", "inputs", "shared"]

Json = dict[str, Any]

LOG_EVENTS: Final[tuple[type[LogEvent], ...]] = get_args(Event)
"""Every event of a job log."""

_TEXT: Final[Json] = {"type": "string"}
_WHOLE: Final[Json] = {"type": "string", "pattern": "^[0-9]{1,18}$"}
_ORIGIN: Final[Json] = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,128}:[0-9]{1,19}$"}
_JOB: Final[Json] = {"type": "string", "pattern": r"^[A-Za-z0-9_-]{1,128}\.[A-Za-z0-9_-]{1,128}$"}
_TOKEN: Final[Json] = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,128}$"}
_TRACEPARENT: Final[Json] = {
    "type": "string",
    "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
    "description": "W3C trace context.",
}


def _object(description: str, required: Iterable[str], properties: Json) -> Json:
    return {"type": "object", "description": description, "required": list(required), "properties": properties}


def _said(schema: Json, description: str) -> Json:
    return {**schema, "description": description}


_CLOUD_EVENT: Final[Json] = {
    h.CE_SPECVERSION: {"const": "1.0"},
    h.CE_TYPE: _TEXT,
    h.CE_SOURCE: _said(_TEXT, "`/jetray/<gateway>`."),
    h.CE_ID: _said(_TEXT, "Unique to this write."),
    h.CE_SUBJECT: _TOKEN,
    h.CE_TIME: {"type": "string", "format": "date-time"},
    h.CONTENT_TYPE: {"const": h.JSON},
    h.MSG_ID: _said(_TEXT, "The same as `ce-id`."),
}

HEADER_SCHEMAS: Final[Json] = {
    "CommandHeaders": _object(
        "Headers of a message in; each may be left out. Those that gateways alone set are not for publishers.",
        (),
        {
            h.MSG_ID: _said(_TEXT, "Stored once within the stream's window; `<kind>.<id>.<run>` is best."),
            h.TRACEPARENT: _TRACEPARENT,
            h.DEADLINE: _said(_TEXT, "Seconds, more than 0: a cap on the job's time, never above the operator's."),
            h.CE_SPECVERSION: _said(_TEXT, "Makes the message a CloudEvent in binary mode: the body is its data."),
            h.CE_ID: _said(_TEXT, "Of a CloudEvent in binary mode: the job id where the input names none."),
            h.CE_CORRELATION: _said(_TEXT, "Of a CloudEvent in binary mode: the correlation id."),
            h.CORRELATION: _said(_TEXT, "The root's correlation id."),
            h.JOB_ID: _said(_TOKEN, "Set by gateways alone: the job id, whatever the body is."),
            h.RUN: _said(_WHOLE, "Set by gateways alone: the run that a replayed message opens."),
            h.PARENT: _said(_JOB, "Set by gateways alone: `<kind>.<id>` of the batch that a child belongs to."),
            h.INDEX: _said(_WHOLE, "Set by gateways alone: a child's place among its siblings, from 0."),
            h.ORIGIN: _said(_ORIGIN, "Set by gateways alone, on moved messages: the message that the log belongs to."),
        },
    ),
    "EventHeaders": _object(
        "Headers of an event of a log: a CloudEvent in binary mode.",
        (*_CLOUD_EVENT, h.CE_DATASCHEMA, h.EXPECTED_SEQUENCE, h.EXPECTED_FILTER),
        {
            **_CLOUD_EVENT,
            h.CE_TYPE: _said(_TEXT, "`jetray.<kind>.<event>.v1`."),
            h.CE_SUBJECT: _said(_TOKEN, "The job id."),
            h.CE_DATASCHEMA: {"type": "string", "format": "uri"},
            h.TRACEPARENT: _TRACEPARENT,
            h.EXPECTED_SEQUENCE: _said(_WHOLE, "Sequence of the event that this one was appended after; 0 for none."),
            h.EXPECTED_FILTER: _said(_TEXT, "The log: `orchestration.<kind>.*.<job_id>`."),
        },
    ),
    "WorkerHeaders": _object(
        "Headers of what a gateway says of itself: a CloudEvent in binary mode.",
        _CLOUD_EVENT,
        {
            **_CLOUD_EVENT,
            h.CE_TYPE: _said(_TEXT, "`jetray.workers.<topic>.<event>.v1`."),
            h.CE_SUBJECT: _said(_TOKEN, "The gateway."),
        },
    ),
    "AgentHeaders": _object(
        "Headers of what a job says.",
        (h.MSG_ID, h.CONTENT_TYPE),
        {h.MSG_ID: _TEXT, h.CONTENT_TYPE: {"const": h.JSON}, h.TRACEPARENT: _TRACEPARENT},
    ),
    "NoticeHeaders": _object("Headers of a notice.", (h.MSG_ID,), {h.MSG_ID: _TEXT}),
    "DeadLetterHeaders": _object(
        f"Headers of a dead letter; each header of the original besides, as `{h.ORIGINAL_PREFIX}<name>`.",
        (h.MSG_ID, h.KIND, h.JOB_ID, h.RUN, h.REASON, h.ATTEMPTS, h.ORIGIN, h.ORIGIN_SUBJECT),
        {
            h.MSG_ID: _said(_TEXT, "`<stream>-<sequence>.<reason>`, of the original."),
            h.KIND: _TOKEN,
            h.JOB_ID: _TOKEN,
            h.RUN: _WHOLE,
            h.REASON: {"enum": sorted(get_args(Reason))},
            h.ATTEMPTS: _said(_WHOLE, "Attempts made in that run."),
            h.ORIGIN: _said(_ORIGIN, "`<stream>:<sequence>` of the original."),
            h.ORIGIN_SUBJECT: _said(_TEXT, "The subject that the original came on."),
            h.BODY_ARTIFACT: _said(_TEXT, "URI of the body, where it did not fit into the dead letter itself."),
            h.BODY_SHA256: _said(_TEXT, "sha256 in hex of that body."),
            h.HEADERS_ARTIFACT: _said(_TEXT, "URI of the original headers as a JSON object, beside such a body."),
        },
    ),
}


def shared() -> Json:
    """The messages that are the same whatever the kinds are, by component name."""
    found = {
        "agent.response": _message(AgentResponse, headers="AgentHeaders"),
        "agent.emitted": _free("Emitted", "Whatever a kind says with `JobContext.emit`.", headers="AgentHeaders"),
        "control.cancel": _message(CancelRequest),
        "control.empty": _free("Command", "The subject says everything; the body is not read."),
        "dlq.letter": _free("DeadLetter", "The original body, byte for byte.", headers="DeadLetterHeaders"),
        "joins.notice": _message(Notice, headers="NoticeHeaders"),
        "kv.kind": _message(KindInfo),
        "kv.worker": _message(GatewayStatus),
    }
    found["dlq.letter"]["contentType"] = "application/octet-stream"
    for event in LOG_EVENTS:
        if event is not Completed:
            found[f"log.{event_name(event)}"] = _message(event, headers="EventHeaders")
    for fleet in FLEET_EVENTS:
        found["workers." + ".".join(fleet.words())] = _message(fleet, headers="WorkerHeaders")
    return _named(found)


def completed(kind: str, result: Json) -> Json:
    """The kind's own message for `completed`: its result is `result`, or the artifact that stands for it."""
    payload = {"allOf": [ref("Completed"), {"properties": {"result": {"anyOf": [result, ref("Moved")]}}}]}
    return _named({f"{kind}.completed": {**_message(Completed, headers="EventHeaders"), "payload": payload}})


def inputs(kind: str, given: Json, *, form: str = "input", envelopes: bool) -> Json:
    """The forms in which a kind's input comes, by component name; `given` is the schema of the bare input."""
    found = {
        "": ("The bare input, or a CloudEvent in binary mode whose data it is.", h.JSON, given),
        ".cloudevent": ("A CloudEvent in structured mode.", h.CLOUDEVENTS_JSON, _cloud_event(given)),
        ".envelope": ("The input as the payload of an envelope.", h.JSON, _envelope(given)),
    }
    if not envelopes:
        del found[".envelope"]
    return _named(
        {
            f"{kind}.{form}{wrapping}": {
                "title": f"{kind}.{form}{wrapping}",
                "summary": summary,
                "contentType": content,
                "headers": ref("CommandHeaders"),
                "payload": payload,
            }
            for wrapping, (summary, content, payload) in found.items()
        }
    )


def _cloud_event(data: Json) -> Json:
    required = ("specversion", "id")
    fields = {
        "specversion": _TEXT,
        "id": _said(_TEXT, "The job id where the input names none."),
        "correlationid": _said(_TEXT, "The correlation id, an extension."),
        "data": data,
        "data_base64": _said(_TEXT, "The data as base64, which counts before `data`."),
    }
    either = [{"required": ["data"]}, {"required": ["data_base64"]}]
    return {**_object("More fields are ignored.", required, fields), "anyOf": either}


def _envelope(payload: Json) -> Json:
    filled = {"type": "string", "minLength": 1}
    fields = {
        "event_type": filled,
        "idempotency_key": _said(filled, "The job id where the input names none."),
        "correlation_id": filled,
        "timestamp": filled,
        "producer": filled,
        "payload": payload,
    }
    return _object("More fields are ignored.", fields, fields)


def _message(struct: type, *, headers: str | None = None) -> Json:
    summary = (inspect.getdoc(struct) or "").partition("\n")[0]
    return _with_headers({"title": struct.__name__, "summary": summary, "payload": ref(struct.__name__)}, headers)


def _free(title: str, summary: str, *, headers: str | None = None) -> Json:
    return _with_headers({"title": title, "summary": summary, "payload": {}}, headers)


def _with_headers(message: Json, headers: str | None) -> Json:
    return message if headers is None else {**message, "headers": ref(headers)}


def _named(messages: Json) -> Json:
    return {name: {"name": name, **message} for name, message in messages.items()}
