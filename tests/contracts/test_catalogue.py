from __future__ import annotations

import json
import shlex
from datetime import datetime
from enum import Enum
from typing import Annotated, Any, Literal

import msgspec
import pytest
from jsonschema import Draft202012Validator
from msgspec import Meta, Raw, Struct

from contracts import catalogue
from contracts.catalogue import KindInfo, NoSchema
from tests.contracts.kinds import DELIBERATION, ODD, PLAN, SHIPPED, kind


class Colour(Enum):
    RED = "red"


class Many(Struct):
    when_id: str
    due_date: str
    at: Annotated[datetime, Meta(tz=True)]
    count: Annotated[int, Meta(ge=3)]
    share: Annotated[float, Meta(gt=0, le=0.5)]
    name: Annotated[str, Meta(min_length=12)]
    colour: Colour
    word: Literal["b", "a"]
    flag: bool
    either: int | str | None
    pair: tuple[int, str]
    some: Annotated[list[int], Meta(min_length=2)]
    raw: Raw
    extra: int = 5


class Patterned(Struct):
    code: Annotated[str, Meta(pattern="^[0-9]{7}$")]


class Picky(Struct):
    part: int

    def __post_init__(self) -> None:
        raise KeyError("no")


class Chain(Struct):
    next: Chain


class Own:
    pass


def example_input(info: KindInfo) -> bytes:
    assert info.example is not None
    words = shlex.split(info.example)
    assert words[:-1] == ["nats", "pub", "-J", "--no-templates", f"jobs.{info.name}"]
    return words[-1].encode()


def test_tells_what_may_be_sent():
    assert DELIBERATION.subjects == ["jobs.deliberation", "jobs.deliberation.high"]
    assert (PLAN.routes, PLAN.batch, PLAN.profile) == (["planning.plan.approved"], True, None)
    assert DELIBERATION.id_field == "task_id"
    deliberation = DELIBERATION.input_schema["$defs"]["Deliberation"]
    assert deliberation["required"] == ["task_id", "task_description", "role"]
    assert deliberation["additionalProperties"] is False


@pytest.mark.parametrize(("info", "name"), [(PLAN, "Plan"), (DELIBERATION, "Deliberation")])
def test_tells_what_an_optional_field_means(info, name):
    schema = info.input_schema["$defs"][name]
    told = {field for field, value in schema["properties"].items() if "description" in value or "$ref" in value}
    assert schema["description"]
    assert schema["properties"].keys() - set(schema["required"]) <= told


@pytest.mark.parametrize("info", [*SHIPPED, *ODD], ids=lambda info: info.name)
def test_schemas_are_valid_and_complete_in_themselves(info):
    for schema in (info.input_schema, info.result_schema):
        Draft202012Validator.check_schema(schema)
        text = json.dumps(schema)
        refs = {part.partition('"')[0] for part in text.split('"$ref": "#/$defs/')[1:]}
        assert text.count('"$ref": ') == text.count('"$ref": "#/$defs/')
        assert refs <= schema.get("$defs", {}).keys()


@pytest.mark.parametrize("info", [*SHIPPED, *ODD, kind("many", Many)], ids=lambda info: info.name)
def test_the_example_fits_the_schema(info):
    Draft202012Validator(info.input_schema).validate(json.loads(example_input(info)))


def test_the_example_of_the_shipped_kinds_reads_well():
    assert PLAN.example == (
        "nats pub -J --no-templates jobs.plan '"
        '{"story_id":"story-1","plan_id":"plan-1","approved_by":"approved_by","timestamp":"2026-11-22T05:00:00Z"}\''
    )


def test_the_example_decodes_as_the_input():
    found = msgspec.json.decode(example_input(kind("many", Many)), type=Many)
    assert (found.count, found.share, found.word, found.extra) == (3, 0.5, "a", 5)


@pytest.mark.parametrize("input_type", [Patterned, Picky, Chain])
def test_no_example_where_none_can_be_made_up(input_type):
    assert kind("score", input_type).example is None


def test_a_type_without_a_schema_is_refused_by_kind_and_side():
    with pytest.raises(NoSchema, match="kind score: its input type has no JSON Schema"):
        kind("score", Own)
    with pytest.raises(NoSchema, match="kind score: its result type has no JSON Schema"):
        kind("score", int, dict[str, Own])


def test_no_kind_takes_the_key_of_the_document():
    with pytest.raises(ValueError, match="no kind may be named asyncapi"):
        kind("asyncapi", int)


@pytest.mark.parametrize("info", [*SHIPPED, *ODD], ids=lambda info: info.name)
def test_the_value_of_a_key_comes_back(info):
    value = catalogue.encode(info)
    assert catalogue.decode(value) == info
    assert value == catalogue.encode(kind_again(info))
    assert value.startswith(b'{\n  "name": "')


def kind_again(info: KindInfo) -> KindInfo:
    return next(found for found in (*SHIPPED, *ODD) if found.name == info.name)


def test_what_is_no_kind_is_refused():
    with pytest.raises(msgspec.DecodeError, match="missing required field"):
        catalogue.decode(b"{}")


def test_routes_are_in_order():
    assert kind("score", Any, routes=["b", "a"]).routes == ["a", "b"]
