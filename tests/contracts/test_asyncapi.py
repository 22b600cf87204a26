"""The document says what the code does. That it is valid AsyncAPI, tests/asyncapi_doc asks the project's own parser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

import msgspec
import pytest
from jsonschema import Draft7Validator

from contracts import asyncapi, subjects
from contracts.agents import Status
from contracts.asyncapi_messages import LOG_EVENTS
from contracts.deliberation import Deliberation, DeliberationResult
from contracts.dlq import dead_headers
from contracts.events import event_name
from contracts.fleet import FLEET_EVENTS
from contracts.inbound import Accepted, InputSpec, Limits, Message, read
from tests.contracts import samples
from tests.contracts.kinds import ODD, SHIPPED, kind

DOCUMENT = asyncapi.document(SHIPPED, version="0.1.0")
ODD_DOCUMENT = asyncapi.document([*SHIPPED, *ODD], version="0.1.0")


def fits(value: Any, message: str, *, part: str = "payload", document: dict[str, Any] = DOCUMENT) -> bool:
    schema = {"allOf": [document["components"]["messages"][message][part]], "components": document["components"]}
    return bool(Draft7Validator(schema, format_checker=Draft7Validator.FORMAT_CHECKER).is_valid(value))


def walk(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        yield from walk(child)


def address_of(subject: str) -> str:
    """The one channel whose address a subject fits; one without parameters before others."""
    tokens = subject.split(".")
    found = []
    for channel in DOCUMENT["channels"].values():
        wanted = channel["address"].split(".")
        if len(wanted) == len(tokens) and all(w == t or w[0] == "{" for w, t in zip(wanted, tokens, strict=True)):
            found.append((sum(w[0] == "{" for w in wanted), channel["address"]))
    assert found, f"no channel for {subject}"
    return str(min(found)[1])


class TestWhole:
    @pytest.mark.parametrize("document", [DOCUMENT, ODD_DOCUMENT], ids=["shipped", "odd"])
    def test_every_reference_leads_somewhere(self, document):
        for part in walk(document):
            if isinstance(part.get("$ref"), str):
                found = document
                for step in part["$ref"].removeprefix("#/").split("/"):
                    found = found[step]

    @pytest.mark.parametrize("document", [DOCUMENT, ODD_DOCUMENT], ids=["shipped", "odd"])
    def test_schemas_are_in_the_words_of_draft_7(self, document):
        for schema in document["components"]["schemas"].values():
            Draft7Validator.check_schema(schema)
        words = {word for part in walk(document["components"]["schemas"]) for word in part}
        assert not words & {"$defs", "prefixItems", "discriminator"}

    def test_is_the_same_whatever_the_order_of_kinds(self):
        assert asyncapi.encode(asyncapi.document(SHIPPED[::-1], version="0.1.0")) == asyncapi.encode(DOCUMENT)
        assert asyncapi.document([*SHIPPED, *ODD][::-1], version="0.1.0") == ODD_DOCUMENT
        assert json.loads(asyncapi.encode(DOCUMENT)) == json.loads(asyncapi.encode(DOCUMENT, indent=None)) == DOCUMENT
        assert asyncapi.encode(DOCUMENT).startswith(b'{\n  "asyncapi": "3.0.0",\n  "id"')
        assert b"\n" not in asyncapi.encode(DOCUMENT, indent=None)

    def test_fits_a_message_of_the_bus_with_fifty_kinds(self):
        kinds = [kind(f"score-{number}", Deliberation, DeliberationResult) for number in range(50)]
        assert len(asyncapi.encode(asyncapi.document(kinds, version="0.1.0"), indent=None)) < 1024 * 1024

    @pytest.mark.parametrize("part", ["channels", "operations"])
    def test_is_sorted(self, part):
        assert list(DOCUMENT[part]) == sorted(DOCUMENT[part])
        for names in DOCUMENT["components"].values():
            assert list(names) == sorted(names)

    def test_every_channel_has_one_operation_and_messages(self):
        used = [operation["channel"]["$ref"].rpartition("/")[2] for operation in DOCUMENT["operations"].values()]
        assert sorted(used) == sorted(DOCUMENT["channels"])
        for channel in DOCUMENT["channels"].values():
            assert channel["messages"]
            named = {token[1:-1] for token in channel["address"].split(".") if token.startswith("{")}
            assert named == set(channel.get("parameters", {}))

    def test_every_message_and_parameter_is_used(self):
        text = json.dumps(DOCUMENT["channels"])
        for part in ("messages", "parameters"):
            for name in DOCUMENT["components"][part]:
                assert f'"#/components/{part}/{name}"' in text

    def test_says_its_version(self):
        assert DOCUMENT["asyncapi"] == "3.0.0"
        assert DOCUMENT["info"]["version"] == "0.1.0"

    @pytest.mark.parametrize(
        ("url", "host"),
        [
            ("nats://127.0.0.1:4222", "127.0.0.1:4222"),
            ("nats://user:secret@bus.example:4333", "bus.example:4333"),
            ("tls://secret@bus.example", "bus.example:4222"),
            ("nats://a:1,nats://secret@b:2", "a:1"),
            ("bus.example:4333", "bus.example:4333"),
            ("nats://[::1]:4222", "[::1]:4222"),
        ],
    )
    def test_names_the_server_without_credentials(self, url, host):
        document = asyncapi.document([], version="0.1.0", server=url)
        assert document["servers"]["bus"]["host"] == host
        assert "secret" not in json.dumps(document)


class TestSubjects:
    @pytest.mark.parametrize("info", SHIPPED, ids=lambda info: info.name)
    def test_jobs_come_in_on_both_lanes(self, info):
        for high in (False, True):
            address = address_of(subjects.job(info.name, high=high))
            assert DOCUMENT["operations"][f"receive.{address}"]["action"] == "receive"
            assert DOCUMENT["channels"][address]["x-jetstream"] == {"stream": "JOBS"}

    def test_routes_come_in(self):
        assert address_of("planning.plan.approved") == "planning.plan.approved"
        assert "receive.planning.plan.approved" in DOCUMENT["operations"]

    @pytest.mark.parametrize("info", SHIPPED, ids=lambda info: info.name)
    @pytest.mark.parametrize("event", LOG_EVENTS, ids=event_name)
    def test_every_event_of_a_log_goes_out_kept_and_live(self, info, event):
        name = event_name(event)
        kept, live = subjects.event(info.name, name, "P1"), subjects.live(info.name, name)
        assert address_of(kept) == f"{live}.{{job_id}}"
        assert address_of(live) == live
        assert DOCUMENT["channels"][f"{live}.job_id"]["x-jetstream"] == {"stream": "EVENTS"}
        assert "x-jetstream" not in DOCUMENT["channels"][live]
        assert DOCUMENT["channels"][f"{live}.job_id"]["messages"] == DOCUMENT["channels"][live]["messages"]

    @pytest.mark.parametrize(
        ("subject", "address"),
        [
            *(
                (subjects.agent("response", status, "P1"), f"agent.response.{status}.{{job_id}}")
                for status in get_args(Status)
            ),
            (subjects.agent("score", "seen", "P1"), "agent.{topic}.{event}.{job_id}"),
            *(
                (subjects.worker(*e.words(), "gw-1"), f"workers.{'.'.join(e.words())}.{{gateway}}")
                for e in FLEET_EVENTS
            ),
            (subjects.cancel("plan", "P1"), "control.cancel.{kind}.{job_id}"),
            (subjects.replay(3), "control.replay.{dlq_sequence}"),
            (subjects.drain("gw-1"), "control.drain.{gateway}"),
            (subjects.dead_letter("plan", "P1"), "dlq.{kind}.{job_id}"),
            (subjects.child_notice("plan.P1"), "joins.{kind}.{parent_id}"),
            ("$KV.kinds.plan", "$KV.kinds.{kind}"),
            ("$KV.workers.gw-1", "$KV.workers.{gateway}"),
        ],
    )
    def test_every_other_subject_has_its_channel(self, subject, address):
        assert address_of(subject) == address

    def test_a_wildcard_of_a_route_is_a_parameter(self):
        channels = ODD_DOCUMENT["channels"]
        assert channels["orders.token_2.placed.rest"]["address"] == "orders.{token_2}.placed.{rest}"
        assert set(channels["stock.token_2.token_3"]["parameters"]) == {"token_2", "token_3"}
        assert channels["orders.a"]["address"] == "orders.a"


class TestPayloads:
    @pytest.mark.parametrize("name", samples.EVENTS)
    def test_events_fit_and_only_their_own_schema(self, name):
        word = name.partition("-")[0]
        body = json.loads(samples.golden("events")[name])
        for event in LOG_EVENTS:
            if event_name(event) != "completed":
                assert fits(body, f"log.{event_name(event)}") is (event_name(event) == word)

    def test_a_completed_has_the_result_of_its_kind(self):
        body = json.loads(samples.golden("events")["completed"])
        moved = json.loads(samples.golden("events")["completed-moved"])
        result = json.loads(samples.golden("kinds")["deliberation-result"])
        assert fits({**body, "result": result}, "deliberation.completed")
        assert fits(moved, "deliberation.completed")
        assert not fits(body, "deliberation.completed")
        assert not fits({**body, "result": result}, "plan.completed")
        assert fits({**body, "result": json.loads(samples.golden("kinds")["plan-result"])}, "plan.completed")

    @pytest.mark.parametrize("name", samples.FLEET)
    def test_what_gateways_say_fits(self, name):
        assert fits(json.loads(samples.golden("fleet")[name]), f"workers.{name}")

    @pytest.mark.parametrize(
        ("group", "message"),
        [
            ("agents", "agent.response"),
            ("notices", "joins.notice"),
            ("status", "kv.worker"),
            ("control", "control.cancel"),
        ],
    )
    def test_the_other_messages_fit(self, group, message):
        for body in samples.golden(group).values():
            assert fits(json.loads(body), message)
            assert not fits([], message)

    @pytest.mark.parametrize("info", [*SHIPPED, *ODD], ids=lambda info: info.name)
    def test_the_value_of_a_kinds_key_fits(self, info):
        assert fits(msgspec.to_builtins(info), "kv.kind")

    TASK = {"task_id": "T1", "task_description": "Cache the catalogue", "role": "DEV"}
    ENVELOPE = {"event_type": "t", "idempotency_key": "k", "correlation_id": "c", "timestamp": "t", "producer": "p"}

    @pytest.mark.parametrize(
        ("message", "body"),
        [
            ("input", TASK),
            ("input", {**TASK, "rounds": 2, "rubric": {"quality": 1.5}, "constraints": {"max_retries": 0}}),
            ("input", {**TASK, "rounds": 21}),
            ("input", {**TASK, "rubric": {"quality": 0}}),
            ("input", {**TASK, "rubric": {"": 1}}),
            ("input", {**TASK, "constraints": {"max_retires": 0}}),
            ("input", {**TASK, "tenant": "x"}),
            ("input", {"task_id": "T1"}),
            ("input", []),
            ("input.envelope", {**ENVELOPE, "payload": TASK}),
            ("input.envelope", {**ENVELOPE, "payload": TASK, "metadata": {}}),
            ("input.envelope", {**ENVELOPE, "payload": TASK, "producer": ""}),
            ("input.envelope", {**ENVELOPE, "payload": TASK, "timestamp": 7}),
            ("input.envelope", {**ENVELOPE, "payload": {"role": "DEV"}}),
            ("input.envelope", {**ENVELOPE}),
            ("input.cloudevent", {"specversion": "1.0", "id": "e", "type": "t", "data": TASK}),
            ("input.cloudevent", {"specversion": "1.0", "id": "e", "data": {"role": "DEV"}}),
            ("input.cloudevent", {"specversion": "1.0", "data": TASK}),
            ("input.cloudevent", {"specversion": "1.0", "id": "e"}),
            ("input.cloudevent", {"specversion": "1.0", "id": 1, "data": TASK}),
        ],
    )
    def test_the_document_and_the_decoder_say_the_same_of_an_input(self, message, body):
        headers = {"content-type": "application/cloudevents+json"} if message.endswith("cloudevent") else {}
        spec: InputSpec[Any] = InputSpec(Deliberation, id_field="task_id")
        taken = Message(
            subject="jobs.deliberation", headers=headers, body=json.dumps(body).encode(), stream="JOBS", sequence=1
        )
        found = read(taken, spec, Limits(), foreign=False)
        assert fits(body, f"deliberation.{message}") is isinstance(found, Accepted)

    def test_a_routed_event_may_have_more_fields(self):
        routed = kind("score", Deliberation, routes=["tasks.ready"])
        document = asyncapi.document([routed], version="0.1.0")
        body = {**self.TASK, "tenant": "x"}
        assert fits(body, "score.event", document=document)
        assert not fits(body, "score.input", document=document)
        assert not fits({**body, "constraints": {"tenant": "x"}}, "score.event", document=document)
        assert list(document["channels"]["tasks.ready"]["messages"]) == [
            "score.event",
            "score.event.cloudevent",
            "score.event.envelope",
        ]

    def test_a_kind_that_takes_more_fields_anyway_has_one_schema_for_both(self):
        assert fits({**json.loads(samples.golden("kinds")["plan-input"]), "title": "x"}, "plan.input")
        assert "plan.event" not in DOCUMENT["components"]["messages"]

    def test_a_kind_that_declares_event_type_is_never_sent_envelopes(self):
        messages = ODD_DOCUMENT["components"]["messages"]
        assert "deliberation.input.envelope" in messages
        assert "domain.input.envelope" not in messages
        assert "domain.event.envelope" not in messages
        assert "number.input.envelope" in messages

    def test_definitions_of_the_same_name_do_not_mix(self):
        schemas = ODD_DOCUMENT["components"]["schemas"]
        assert "prompt_template" in schemas["Agent"]["properties"]
        assert set(schemas["domain.input.Agent"]["properties"]) == {"badge", "chief"}
        body = {"event_type": "t", "agents": [{"badge": 1, "chief": {"badge": 2}}], "place": [1.5, 2.0]}
        assert fits(body, "domain.input", document=ODD_DOCUMENT)
        assert not fits({**body, "agents": [{"id": "a-1"}]}, "domain.input", document=ODD_DOCUMENT)
        assert not fits({**body, "place": [1.5, 2.0, 3.0]}, "domain.input", document=ODD_DOCUMENT)
        assert not fits({**body, "place": ["x", 2.0]}, "domain.input", document=ODD_DOCUMENT)
        assert fits({**self.TASK, "agents": [{"id": "a-1"}]}, "deliberation.input", document=ODD_DOCUMENT)


class TestHeaders:
    DEAD = {
        "kind": "plan",
        "job_id": "P1",
        "run": 1,
        "attempts": 3,
        "stream": "JOBS",
        "sequence": 17,
        "subject": "jobs.plan",
        "original": {"Nats-TTL": "1h"},
    }

    def test_of_a_dead_letter_fit(self):
        headers = dead_headers(**self.DEAD, reason="decode")  # type: ignore[arg-type]
        assert fits(headers, "dlq.letter", part="headers")
        assert not fits({**headers, "Jetray-Reason": "whim"}, "dlq.letter", part="headers")
        assert not fits({k: v for k, v in headers.items() if k != "Jetray-Origin"}, "dlq.letter", part="headers")

    @pytest.mark.parametrize(
        ("headers", "fit"),
        [
            ({}, True),
            ({"Jetray-Deadline": "5", "traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"}, True),
            ({"traceparent": "00"}, False),
            ({"Jetray-Parent": "plan.P1", "Jetray-Index": "0", "Jetray-Job-Id": "P1-DEV"}, True),
            ({"Jetray-Parent": "plan"}, False),
            ({"Jetray-Index": "x"}, False),
            ({"Jetray-Origin": "JOBS:1"}, True),
            ({"Jetray-Origin": "JOBS"}, False),
        ],
    )
    def test_of_a_message_in(self, headers, fit):
        assert fits(headers, "deliberation.input", part="headers") is fit


def test_no_definition_of_a_kind_stands_for_headers():
    class EventHeaders(msgspec.Struct):
        mine: int

    document = asyncapi.document([kind("score", EventHeaders)], version="0.1.0")
    assert document["components"]["schemas"]["EventHeaders"] == DOCUMENT["components"]["schemas"]["EventHeaders"]
    assert fits({"mine": 1}, "score.input", document=document)
    assert not fits({"ours": 1}, "score.input", document=document)


def test_tells_what_a_kind_does():
    about = DOCUMENT["channels"]["jobs.deliberation"]["description"]
    assert about == "Starts a job of kind deliberation. A council of agents proposes, criticises, revises and scores."
    assert "More of it" not in json.dumps(DOCUMENT["channels"])
