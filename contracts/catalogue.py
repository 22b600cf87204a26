"""KV `kinds`: a key per kind that tells what may be sent to it, for people and for tools."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from contracts import codec, subjects
from contracts.codec import Undecodable
from contracts.inbound import InputSpec

__all__ = ["DOCUMENT_KEY", "KindInfo", "NoSchema", "decode", "describe", "encode"]

DOCUMENT_KEY: Final = "asyncapi"
"""The key beside the kinds' own that holds the whole AsyncAPI document; no kind may have this name."""

_SAMPLE_TIME: Final = "2026-11-22T05:00:00Z"
_SAMPLE_LEVELS: Final = 8


class NoSchema(ValueError):
    """A type that no JSON Schema can describe."""


class KindInfo(Struct, frozen=True, kw_only=True):
    """What there is to know about a kind before sending to it."""

    name: str
    version: str
    batch: bool
    """It expands into child jobs and reduces their results."""
    doc: str
    id_field: str | None
    """The input's field that is the job's id; null where only headers and wrappings can name one."""
    subjects: list[str]
    """Where a command for it may be published: `jobs.<kind>` and its priority lane."""
    routes: list[str]
    """Subjects of other owners whose messages start it."""
    profile: str | None
    """The recipe of the actors that run it; null for a batch kind, which occupies none."""
    deadline_s: Annotated[float, Meta(gt=0)]
    """A job's time in seconds. `Jetray-Deadline` may shorten it."""
    attempt_deadline_s: Annotated[float, Meta(gt=0)] | None = None
    """The time of one attempt in seconds; null where the job's own alone ends it."""
    max_attempts: Annotated[int, Meta(ge=1)]
    example: str | None
    """A command line that sends it an input which decodes; null where none could be made up."""
    input_schema: dict[str, Any]
    """JSON Schema (2020-12), complete in itself."""
    result_schema: dict[str, Any]
    """JSON Schema (2020-12), complete in itself."""


def describe(
    *,
    name: str,
    version: str,
    input_type: Any,
    result_type: Any,
    id_field: str | None,
    routes: Sequence[str],
    profile: str | None,
    deadline_s: float,
    attempt_deadline_s: float | None = None,
    max_attempts: int,
    batch: bool = False,
    doc: str = "",
) -> KindInfo:
    """What there is to know about a kind. Raises `NoSchema` where a type of it cannot be described."""
    if name == DOCUMENT_KEY:
        raise ValueError(f"no kind may be named {name}: that key of KV {subjects.KINDS} holds the AsyncAPI document")
    command = subjects.job(name)
    input_schema = _schema(name, "input", input_type)
    sample = _sample_input(input_schema, input_type)
    return KindInfo(
        name=name,
        version=version,
        batch=batch,
        doc=doc,
        id_field=id_field,
        subjects=[command, subjects.job(name, high=True)],
        routes=sorted(routes),
        profile=profile,
        deadline_s=deadline_s,
        attempt_deadline_s=attempt_deadline_s,
        max_attempts=max_attempts,
        example=None if sample is None else f"nats pub -J --no-templates {command} {shlex.quote(sample)}",
        input_schema=input_schema,
        result_schema=_schema(name, "result", result_type),
    )


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(KindInfo)


def encode(info: KindInfo) -> bytes:
    """The value of the kind's key, indented for the eyes that it is for."""
    return msgspec.json.format(_encoder.encode(info), indent=2)


def decode(value: bytes) -> KindInfo:
    """What the value of a kind's key tells; `codec.Undecodable` where it is none."""
    return codec.decode(_decoder, value)


def _schema(kind: str, what: str, of: Any) -> dict[str, Any]:
    try:
        # Through JSON: a default may be a tuple.
        schema: dict[str, Any] = msgspec.json.decode(_encoder.encode(msgspec.json.schema(of)))
    except TypeError as error:
        first = str(error).splitlines()[0]
        raise NoSchema(f"kind {kind}: its {what} type has no JSON Schema: {first}") from error
    return schema


def _sample_input(schema: Mapping[str, Any], of: Any) -> str | None:
    """A least input as JSON, with every required field; None where the guess does not decode."""
    text = msgspec.json.encode(_sample(schema, schema.get("$defs", {}), "value", _SAMPLE_LEVELS))
    spec: InputSpec[Any] = InputSpec(of)
    try:
        spec.decode(text)
    except Undecodable:
        return None
    return text.decode()


def _sample(schema: Mapping[str, Any], defs: Mapping[str, Any], name: str, levels: int) -> Any:
    """A value that fits `schema`, as far as can be told without trying; texts bear the `name` of their field."""
    if levels == 0:
        return None
    if "$ref" in schema:
        return _sample(defs[schema["$ref"].rpartition("/")[2]], defs, name, levels - 1)
    for choice in ("enum", "anyOf"):
        if choice in schema:
            first = schema[choice][0]
            return first if choice == "enum" else _sample(first, defs, name, levels - 1)
    match schema.get("type"):
        case "object":
            fields = schema.get("properties", {})
            return {field: _sample(fields[field], defs, field, levels - 1) for field in schema.get("required", ())}
        case "array":
            items = schema.get("prefixItems") or [schema.get("items") or {}] * schema.get("minItems", 0)
            return [_sample(item, defs, name, levels - 1) for item in items]
        case "string":
            return _sample_text(schema, name)
        case "integer" | "number":
            return _sample_number(schema)
        case "boolean":
            return False
    return None


def _sample_text(schema: Mapping[str, Any], name: str) -> str:
    if schema.get("format") == "date-time" or re.search("time|date", name):
        return _SAMPLE_TIME
    text = f"{name.removesuffix('_id')}-1" if name.endswith("_id") else name
    return text.ljust(schema.get("minLength", 0), "-")[: schema.get("maxLength")]


def _sample_number(schema: Mapping[str, Any]) -> float:
    least: float = schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1)
    most: float = schema.get("maximum", least)
    return min(least, most)
