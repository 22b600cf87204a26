"""The whole contract as an AsyncAPI 3.0 document: every subject, who speaks on it, headers and payloads.

The application is Jetray: it receives jobs and commands, and sends events.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal, get_args
from urllib.parse import urlsplit

import msgspec

from contracts import agents, asyncapi_messages, subjects
from contracts.asyncapi_messages import LOG_EVENTS
from contracts.asyncapi_schemas import Schemas, with_more_fields
from contracts.catalogue import KindInfo
from contracts.events import Completed, event_name
from contracts.fleet import FLEET_EVENTS

__all__ = ["document", "encode"]

Json = dict[str, Any]

_DESCRIPTION: Final = """\
Events on a NATS bus become work on a Ray cluster, and work becomes events.

Publish with an acknowledgement (`nats pub -J --no-templates …`, or a client's JetStream publish): a core publish into \
a full or unknown subject vanishes without a word. Within a version, fields are only added: ignore what you do not know.
"""

_TAGS: Final = {
    "agents": "What jobs say while they run.",
    "control": "An operator's commands.",
    "dlq": "What could not be done.",
    "jobs": "What starts a job.",
    "joins": "Between gateways: ends of a batch's children.",
    "kv": "Keys to look things up.",
    "live": "Events of jobs as they happen: live only, at most once.",
    "log": "Events of jobs as they are kept: the only truth about a job.",
    "workers": "What gateways say of themselves.",
}

_PARAMETERS: Final = {
    "dlq_sequence": "Sequence of the dead letter in its stream.",
    "event": "Second token of what a kind says.",
    "gateway": "The gateway's name, a token.",
    "job_id": "The job's id. What is no token of 1 to 128 of A-Z a-z 0-9 _ - is replaced by its sha256 in hex.",
    "kind": "The kind's name, a token.",
    "parent_id": "The id of the batch, a token.",
    "rest": "One or more tokens, whatever they are.",
    "topic": "First token of what a kind says.",
}


def document(kinds: Sequence[KindInfo], *, version: str, server: str = "nats://127.0.0.1:4222") -> Json:
    """The document for `kinds`, as Jetray `version` serves them on `server`, a URL; its credentials are left out."""
    schemas = Schemas(asyncapi_messages.HEADER_SCHEMAS)
    document = _Document()
    document.messages.update(asyncapi_messages.shared())
    for kind in sorted(kinds, key=lambda kind: kind.name):
        _inputs(document, schemas, kind)
        _events(document, schemas, kind)
    _agents(document)
    _workers(document)
    _control(document)
    _between_gateways(document)
    _keys(document)
    return {
        "asyncapi": "3.0.0",
        "id": "urn:jetray",
        "info": {
            "title": "Jetray",
            "version": version,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
            "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        },
        "defaultContentType": "application/json",
        "servers": {"bus": _server(server)},
        "channels": dict(sorted(document.channels.items())),
        "operations": dict(sorted(document.operations.items())),
        "components": {
            "messages": dict(sorted(document.messages.items())),
            "parameters": dict(sorted(document.parameters.items())),
            "schemas": schemas.components(),
        },
    }


def encode(document: Json, *, indent: int | None = 2) -> bytes:
    """The document as JSON, indented for the eyes that read it; None for the least bytes."""
    body = msgspec.json.encode(document)
    return body if indent is None else msgspec.json.format(body, indent=indent)


class _Document:
    """Channels, and with each the operation on it."""

    def __init__(self) -> None:
        self.channels: Json = {}
        self.operations: Json = {}
        self.messages: Json = {}
        self.parameters: Json = {}

    def channel(
        self,
        action: Literal["send", "receive"],
        address: str,
        messages: Iterable[str],
        description: str,
        *,
        tag: str,
        stream: str | None = None,
    ) -> None:
        """Add a channel, or messages to it where it is there already. Words in braces become parameters."""
        name = address.replace("{", "").replace("}", "")
        channel = self.channels.setdefault(name, {"address": address, "description": description, "messages": {}})
        channel["messages"].update({key: {"$ref": f"#/components/messages/{key}"} for key in messages})
        if stream is not None:
            channel["x-jetstream"] = {"stream": stream}
        parameters = [token[1:-1] for token in address.split(".") if token.startswith("{")]
        if parameters:
            channel["parameters"] = {key: {"$ref": f"#/components/parameters/{key}"} for key in parameters}
        for key in parameters:
            self.parameters[key] = {"description": _PARAMETERS.get(key, "Any one token.")}
        self.operations[f"{action}.{name}"] = {
            "action": action,
            "channel": {"$ref": f"#/channels/{name}"},
            "tags": [{"name": tag}],
        }


def _inputs(document: _Document, schemas: Schemas, kind: KindInfo) -> None:
    given = schemas.add(f"{kind.name}.input", kind.input_schema)
    # A kind whose own input tells of an event type is never sent envelopes.
    envelopes = "event_type" not in schemas.resolve(given).get("properties", {})
    ours = asyncapi_messages.inputs(kind.name, given, envelopes=envelopes)
    document.messages.update(ours)
    what_it_does = kind.doc.partition("\n")[0]
    for address, lane in zip(kind.subjects, ("", ", before all that wait in its normal lane"), strict=True):
        about = f"Starts a job of kind {kind.name}{lane}. {what_it_does}".rstrip()
        document.channel("receive", address, ours, about, tag="jobs", stream=subjects.JOBS)
    if not kind.routes:
        return
    theirs = ours
    if schemas.resolve(given).get("additionalProperties") is False:
        foreign = schemas.add(f"{kind.name}.event", with_more_fields(kind.input_schema))
        theirs = asyncapi_messages.inputs(kind.name, foreign, form="event", envelopes=envelopes)
        document.messages.update(theirs)
    for route in kind.routes:
        about = f"Each message starts a job of kind {kind.name}. Fields that its input does not name are ignored."
        document.channel("receive", _address(route), theirs, about, tag="jobs")


def _events(document: _Document, schemas: Schemas, kind: KindInfo) -> None:
    result = schemas.add(f"{kind.name}.result", kind.result_schema)
    document.messages.update(asyncapi_messages.completed(kind.name, result))
    for event in LOG_EVENTS:
        name = event_name(event)
        message = f"{kind.name}.completed" if event is Completed else f"log.{name}"
        live = subjects.live(kind.name, name)
        about = f"Event {name} of kind {kind.name}"
        kept, happening = f"{about}, as its log keeps it.", f"{about}, as it happens."
        document.channel("send", f"{live}.{{job_id}}", [message], kept, tag="log", stream=subjects.EVENTS)
        document.channel("send", live, [message], happening, tag="live")


def _agents(document: _Document) -> None:
    for status in get_args(agents.Status):
        address = f"agent.{agents.TOPIC}.{status}.{{job_id}}"
        about = f"An agent of a council: {status}."
        document.channel("send", address, ["agent.response"], about, tag="agents", stream=subjects.AGENTS)
    address, about = "agent.{topic}.{event}.{job_id}", "What a kind of your own says."
    document.channel("send", address, ["agent.emitted"], about, tag="agents", stream=subjects.AGENTS)


def _workers(document: _Document) -> None:
    for event in FLEET_EVENTS:
        name = "workers." + ".".join(event.words())
        about = str(document.messages[name]["summary"])
        document.channel("send", f"{name}.{{gateway}}", [name], about, tag="workers", stream=subjects.WORKERS)


def _control(document: _Document) -> None:
    for address, message, about in (
        ("control.cancel.{kind}.{job_id}", "control.cancel", "Cancels a job."),
        ("control.replay.{dlq_sequence}", "control.empty", "Runs a dead letter again."),
        ("control.drain.{gateway}", "control.empty", "Drains a gateway: it pulls no more and ends."),
    ):
        document.channel("receive", address, [message], about, tag="control", stream=subjects.CONTROL)


def _between_gateways(document: _Document) -> None:
    for address, message, about in (
        ("dlq.{kind}.{job_id}", "dlq.letter", "A message that could not be done, and why."),
        ("joins.{kind}.{parent_id}", "joins.notice", "A child of the batch ended."),
    ):
        stream, _, _ = address.partition(".")
        document.channel("send", address, [message], about, tag=stream, stream=stream.upper())


def _keys(document: _Document) -> None:
    for address, message, about in (
        (f"$KV.{subjects.KINDS}.{{kind}}", "kv.kind", "What may be sent to a kind."),
        (
            f"$KV.{subjects.WORKERS_KV}.{{gateway}}",
            "kv.worker",
            "What a gateway does now, for eyes alone.",
        ),
    ):
        document.channel("send", address, [message], about, tag="kv")


def _address(route: str) -> str:
    """A routed subject as an address: each wildcard becomes a parameter."""
    tokens = route.split(".")
    names = (f"token_{place}" if token == "*" else "rest" for place, token in enumerate(tokens, 1))
    return ".".join(f"{{{name}}}" if token in "*>" else token for token, name in zip(tokens, names, strict=True))


def _server(url: str) -> Json:
    first = url.split(",")[0].strip()
    parts = urlsplit(first if "://" in first else f"nats://{first}")
    host = parts.hostname or "127.0.0.1"
    host = f"[{host}]" if ":" in host else host
    return {
        "host": f"{host}:{parts.port or 4222}",
        "protocol": "nats",
        "description": "A NATS server with JetStream.",
    }
