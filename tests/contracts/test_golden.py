"""Every message has the bytes that it has always had, and those bytes still mean the same."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from contracts import calls, events, joins
from tests.contracts import samples
from tests.contracts.samples import golden

JSON_GROUPS: dict[str, Mapping[str, Struct]] = {
    "agents": samples.AGENTS,
    "control": samples.CONTROL,
    "events": samples.EVENTS,
    "fleet": samples.FLEET,
    "kinds": samples.KINDS,
    "notices": samples.NOTICES,
    "status": samples.STATUS,
}
CASES = [(group, name) for group, values in JSON_GROUPS.items() for name in values]
MODULES = ("agents", "batch", "calls", "control", "deliberation", "errors", "events", "fleet", "joins", "plan")
NOT_MESSAGES = {"LogEvent", "FleetEvent", "Cancel", "Replay", "Drain"}
"""Bases of others, and commands, which are subjects."""


@pytest.mark.parametrize("group", [*JSON_GROUPS, "calls"])
def test_a_golden_line_for_each_sample(group):
    values = samples.CALLS if group == "calls" else JSON_GROUPS[group]
    assert list(golden(group)) == list(values)


@pytest.mark.parametrize(("group", "name"), CASES)
def test_json_encodes_to_the_golden_bytes(group, name):
    assert msgspec.json.encode(JSON_GROUPS[group][name]) == golden(group)[name]


@pytest.mark.parametrize(("group", "name"), CASES)
def test_golden_bytes_decode_to_the_sample(group, name):
    sample = JSON_GROUPS[group][name]
    decoded = msgspec.json.decode(golden(group)[name], type=type(sample))
    assert _plain(decoded) == _plain(sample)


@pytest.mark.parametrize("name", samples.EVENTS)
def test_an_event_is_told_by_its_tag_and_encoded_by_its_module(name):
    sample = samples.EVENTS[name]
    body = events.encode(sample)
    assert body == golden("events")[name]
    decoded = events.decode(body)
    assert type(decoded) is type(sample)
    assert events.encode(decoded) == body


@pytest.mark.parametrize("name", samples.NOTICES)
def test_a_notice_is_encoded_and_decoded_by_its_module(name):
    notice = samples.NOTICES[name]
    assert isinstance(notice, joins.Notice)
    assert joins.encode(notice) == golden("notices")[name]
    assert joins.decode(golden("notices")[name]) == notice


@pytest.mark.parametrize("name", samples.CALLS)
def test_a_call_and_its_replies_cross_as_golden_msgpack(name):
    sample = samples.CALLS[name]
    body = calls.encode(sample)
    assert body.hex().encode() == golden("calls")[name]
    match sample:
        case calls.Call():
            assert calls.decode_call(body) == sample
            assert calls.decode_calls(calls.encode_many([sample, sample])) == [sample, sample]
        case calls.Ran():
            assert calls.decode_ran(body) == sample
        case _:
            assert calls.decode_reply(body) == sample


@pytest.mark.parametrize(
    ("group", "name"), [case for case in CASES if case[0] in ("agents", "events", "fleet", "status")]
)
def test_a_subscriber_ignores_fields_it_does_not_know(group, name):
    sample = JSON_GROUPS[group][name]
    body = golden(group)[name][:-1] + b',"added_in_a_later_release":{"deep":[1]}}'
    assert _plain(msgspec.json.decode(body, type=type(sample))) == _plain(sample)


def test_every_struct_of_the_wire_has_a_sample():
    assert {struct.__name__ for struct in _declared()} - NOT_MESSAGES == {type(value).__name__ for value in _reached()}


def test_every_optional_field_is_set_in_some_sample():
    optional, found = set(), set()
    for value in _reached():
        for field in msgspec.structs.fields(value):
            if not field.required:
                default = field.default_factory() if callable(field.default_factory) else field.default
                where = (_declares(type(value), field.name).__name__, field.name)
                optional.add(where)
                found |= {where} if getattr(value, field.name) != default else set()
    assert optional - found == set()


def _declared() -> set[type[Struct]]:
    found: set[type[Struct]] = set()
    for name in MODULES:
        module = importlib.import_module(f"contracts.{name}")
        classes = (value for value in vars(module).values() if inspect.isclass(value))
        found |= {value for value in classes if issubclass(value, Struct) and value.__module__ == module.__name__}
    return found


def _declares(struct: type[Struct], field: str) -> type:
    structs = [base for base in reversed(struct.__mro__) if issubclass(base, Struct) and base is not Struct]
    return next(base for base in structs if field in base.__struct_fields__)


def _reached() -> list[Struct]:
    groups = [*JSON_GROUPS.values(), samples.CALLS]
    return [struct for group in groups for value in group.values() for struct in _structs(value)]


def _structs(value: Any) -> Iterator[Struct]:
    if isinstance(value, Struct):
        yield value
        for name in value.__struct_fields__:
            yield from _structs(getattr(value, name))
    elif isinstance(value, Mapping):
        for child in value.values():
            yield from _structs(child)
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        for child in value:
            yield from _structs(child)


def _plain(value: Any) -> Any:
    """For comparison: raw JSON compares by identity."""
    return msgspec.json.decode(msgspec.json.encode(value)), type(value)
