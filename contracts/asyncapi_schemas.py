"""The JSON Schemas of the wire, gathered as components of one AsyncAPI document.

AsyncAPI 3.0 reads schemas as draft 7, and msgspec writes 2020-12: what the two say differently is translated here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from contracts.agents import AgentResponse
from contracts.catalogue import KindInfo
from contracts.control import CancelRequest
from contracts.events import Event, Moved
from contracts.fleet import FLEET_EVENTS, GatewayStatus
from contracts.joins import Notice

__all__ = ["Schemas", "ref", "with_more_fields"]

Schema = dict[str, Any]

_REF: Final = "#/components/schemas/"
_OF_THE_WIRE: Final = (Event, Moved, AgentResponse, *FLEET_EVENTS, GatewayStatus, CancelRequest, Notice, KindInfo)
_MAPS: Final = ("properties", "patternProperties")
_LISTS: Final = ("anyOf", "oneOf", "allOf")
_SINGLES: Final = ("items", "additionalProperties", "propertyNames")


def ref(name: str) -> Schema:
    """A reference to the component schema `name`."""
    return {"$ref": _REF + name}


def with_more_fields(schema: Mapping[str, Any]) -> Schema:
    """A self-contained schema whose outermost object may have fields that it does not name."""
    definitions = schema.get("$defs", {})
    while "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    opened = {key: value for key, value in schema.items() if key != "additionalProperties" or value is not False}
    return {**opened, "$defs": definitions}


class Schemas:
    """Component schemas by name: the wire's own and those `given` from the start, each kind's as they are added."""

    def __init__(self, given: Mapping[str, Schema]) -> None:
        _, found = msgspec.json.schema_components(_OF_THE_WIRE, ref_template="#/$defs/{name}")
        self._schemas: dict[str, Schema] = {name: _draft_7(schema, ref) for name, schema in found.items()}
        self._schemas.update(given)

    def add(self, name: str, schema: Mapping[str, Any]) -> Schema:
        """Add a self-contained schema, with its `$defs` beside it, and return a reference to it.

        Definitions are shared between kinds where they are the same. A kind with a definition of its own under a name
        that is taken has all of its definitions under `<name>.<definition>`, so that no reference can mean another's.
        """
        definitions = schema.get("$defs", {})
        shared = {key: _draft_7(definition, ref) for key, definition in definitions.items()}
        if any(self._schemas.get(key, definition) != definition for key, definition in shared.items()):
            return self._add(name, schema, lambda key: ref(f"{name}.{key}"))
        return self._add(name, schema, ref)

    def resolve(self, schema: Mapping[str, Any]) -> Schema:
        """The schema itself, behind whatever references lead to it."""
        while "$ref" in schema:
            schema = self._schemas[schema["$ref"].removeprefix(_REF)]
        return dict(schema)

    def components(self) -> dict[str, Schema]:
        """Every schema by name, in order of the names."""
        return dict(sorted(self._schemas.items()))

    def _add(self, name: str, schema: Mapping[str, Any], named: Callable[[str], Schema]) -> Schema:
        for key, definition in schema.get("$defs", {}).items():
            self._schemas[named(key)["$ref"].removeprefix(_REF)] = _draft_7(definition, named)
        self._schemas[name] = _draft_7({key: value for key, value in schema.items() if key != "$defs"}, named)
        return ref(name)


def _draft_7(schema: Any, named: Callable[[str], Schema]) -> Any:
    """`schema` in the words of draft 7, its references as `named` gives them."""
    if not isinstance(schema, Mapping):
        return schema  # `true`, or `false`
    found: Schema = {}
    for key, value in schema.items():
        if key in _MAPS:
            found[key] = {name: _draft_7(child, named) for name, child in value.items()}
        elif key in _LISTS:
            found[key] = [_draft_7(child, named) for child in value]
        elif key in _SINGLES:
            found[key] = _draft_7(value, named)
        elif key not in ("$ref", "discriminator", "prefixItems"):
            # `discriminator` is another thing in AsyncAPI, and an event's tag is an enum of one anyway.
            found[key] = value
    if "prefixItems" in schema:
        found["additionalItems"] = found.pop("items", True)
        found["items"] = [_draft_7(child, named) for child in schema["prefixItems"]]
    if "$ref" not in schema:
        return found
    target = named(schema["$ref"].rpartition("/")[2])
    # Draft 7 ignores whatever stands beside a reference.
    return {"allOf": [target], **found} if found else target
