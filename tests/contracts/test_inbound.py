from __future__ import annotations

import json
from base64 import b64encode
from hashlib import sha256
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw, Struct

from contracts.deliberation import Deliberation
from contracts.errors import ErrorInfo
from contracts.inbound import Accepted, InputSpec, Limits, Message, Refused, read, refuse
from contracts.plan import Plan
from contracts.tokens import is_token

DELIBERATION: InputSpec[Any] = InputSpec(Deliberation, id_field="task_id")
PLAN: InputSpec[Any] = InputSpec(Plan, id_field="plan_id", not_identity=frozenset(["approved_by", "timestamp"]))
LIMITS = Limits()

TASK = {"task_id": "T1", "task_description": "Cache the catalogue", "role": "DEV"}
APPROVED = {"story_id": "S1", "plan_id": "P1", "approved_by": "reviewer-1", "timestamp": "2026-11-22T05:00:00Z"}
ENVELOPE = {
    "event_type": "deliberation.requested",
    "idempotency_key": "key-1",
    "correlation_id": "corr-1",
    "timestamp": "2026-11-22T05:00:00Z",
    "producer": "planner",
}
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Free(Struct, frozen=True):
    """An input whose id may be left out."""

    run_id: str | int | None = None
    text: str = ""


class Nested(Struct, frozen=True):
    inner: Any = None


FREE: InputSpec[Any] = InputSpec(Free, id_field="run_id")


def take(body, headers=None, spec=DELIBERATION, *, foreign=False, limits=LIMITS):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    subject = "planning.plan.approved" if foreign else "jobs.deliberation"
    message = Message(subject=subject, headers=headers or {}, body=raw, stream="JOBS", sequence=17)
    return read(message, spec, limits, foreign=foreign)


def accepted(body, headers=None, spec=DELIBERATION, **options) -> Accepted:
    found = take(body, headers, spec, **options)
    assert isinstance(found, Accepted), found
    return found


def refused(body, headers=None, spec=DELIBERATION, **options) -> Refused:
    found = take(body, headers, spec, **options)
    assert isinstance(found, Refused), found
    return found


class TestForms:
    def test_the_bare_input(self):
        found = accepted(TASK)
        assert found.input == msgspec.convert(TASK, Deliberation)
        assert found.job_id == "T1"
        assert found.subject_id is None
        assert found.correlation_id == "T1"
        assert found.origin == "JOBS:17"
        assert (found.deadline_s, found.traceparent, found.parent, found.index, found.run) == (
            None,
            None,
            None,
            0,
            None,
        )

    def test_an_envelope(self):
        found = accepted({**ENVELOPE, "causation_id": "c-0", "payload": TASK})
        assert found.input == msgspec.convert(TASK, Deliberation)
        assert found.job_id == "T1"
        assert found.correlation_id == "corr-1"

    def test_an_envelope_whose_keys_are_escaped(self):
        body = json.dumps({**ENVELOPE, "payload": TASK}).replace("idempotency_key", "\\u0069dempotency_key").encode()
        assert accepted(body).correlation_id == "corr-1"

    @pytest.mark.parametrize("missing", ENVELOPE)
    def test_an_envelope_has_all_five_fields(self, missing):
        body = {name: value for name, value in {**ENVELOPE, "payload": TASK}.items() if name != missing}
        assert "unknown field" in refused(body).error.message
        assert accepted({**body, **TASK}, foreign=True).correlation_id == "T1"

    @pytest.mark.parametrize("payload", [None, [], "{}", 1])
    def test_an_envelope_has_an_object_as_payload(self, payload):
        found = accepted({**ENVELOPE, **TASK, "payload": payload}, foreign=True)
        assert (found.job_id, found.correlation_id) == ("T1", "T1")

    @pytest.mark.parametrize("empty", ENVELOPE)
    def test_no_field_of_an_envelope_is_empty(self, empty):
        found = refused({**ENVELOPE, "payload": TASK, empty: ""})
        assert found.error.message == f"envelope field {empty} is empty"

    @pytest.mark.parametrize("wrong", ENVELOPE)
    def test_the_fields_of_an_envelope_are_text(self, wrong):
        assert f"$.{wrong}" in refused({**ENVELOPE, "payload": TASK, wrong: 7}).error.message

    def test_a_kind_that_declares_event_type_is_never_sent_envelopes(self):
        class Domain(Struct):
            event_type: str
            payload: dict[str, Any]
            idempotency_key: str = ""

        spec: InputSpec[Any] = InputSpec(Domain)
        assert spec.declares_event_type
        found = accepted({**ENVELOPE, "payload": {"a": 1}}, spec=spec)
        assert found.input == Domain("deliberation.requested", {"a": 1}, "key-1")
        assert found.job_id == "JOBS-17"

    def test_a_cloud_event_in_binary_mode(self):
        headers = {
            "ce-specversion": "1.0",
            "ce-id": "e-1",
            "ce-correlationid": "corr-2",
            "content-type": "application/json",
        }
        found = accepted({"text": "hello"}, headers, FREE)
        assert found.input == Free(text="hello")
        assert (found.job_id, found.correlation_id) == ("e-1", "corr-2")

    def test_the_data_of_a_binary_cloud_event_is_no_envelope(self):
        found = refused({**ENVELOPE, "payload": TASK}, {"ce-specversion": "1.0", "ce-id": "e-1"})
        assert "unknown field" in found.error.message

    @pytest.mark.parametrize(
        "content_type", ["application/cloudevents+json", "Application/CloudEvents+JSON; charset=utf-8"]
    )
    @pytest.mark.parametrize("name", ["content-type", "Content-Type"])
    def test_a_cloud_event_in_structured_mode(self, name, content_type):
        event = {"specversion": "1.0", "id": "e-1", "type": "t", "source": "/s", "correlationid": "corr-3"}
        found = accepted({**event, "data": {"text": "hello"}}, {name: content_type}, FREE)
        assert found.input == Free(text="hello")
        assert (found.job_id, found.correlation_id) == ("e-1", "corr-3")

    def test_a_cloud_event_with_data_in_base64(self):
        event = {"specversion": "1.0", "id": "e-1", "data_base64": b64encode(b'{"text":"hi"}').decode()}
        assert accepted(event, {"content-type": "application/cloudevents+json"}, FREE).input == Free(text="hi")

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"data_base64": "not base64!"}, "CloudEvent field data_base64 is not base64"),
            ({"data_base64": "eyJ0ZXh0I!joiaGkifQ=="}, "CloudEvent field data_base64 is not base64"),
            ({"data_base64": "aGVsbG8"}, "CloudEvent field data_base64 is not base64"),
            ({"data_base64": "ä"}, "CloudEvent field data_base64 is not base64"),
            ({}, "CloudEvent has no data"),
            ({"id": 1, "data": {}}, "$.id"),
            ({"id": None, "data": {}}, "$.id"),
            ({"specversion": 1.0, "data": {}}, "$.specversion"),
            ({"data": None}, "Expected `object`, got `null`"),
            ({"data_base64": b64encode(b"[" * 100_000).decode()}, "nested deeper than 64"),
        ],
    )
    def test_a_structured_cloud_event_that_is_none(self, change, words):
        body = {"specversion": "1.0", "id": "e-1", **change}
        found = refused(body, {"content-type": "application/cloudevents+json"}, FREE)
        assert words in found.error.message


class TestId:
    ALL = {"Jetray-Job-Id": "ours", "ce-specversion": "1.0", "ce-id": "event", "Nats-Msg-Id": "message"}

    @pytest.mark.parametrize(
        ("body", "headers", "job_id"),
        [
            ({"run_id": "field"}, ALL, "ours"),
            ({"run_id": "field"}, {**ALL, "Jetray-Job-Id": ""}, "field"),
            ({}, {**ALL, "Jetray-Job-Id": ""}, "event"),
            ({}, {"Nats-Msg-Id": "message"}, "message"),
            ({}, {"nats-msg-id": "message"}, "message"),
            ({"run_id": ""}, {"Nats-Msg-Id": "message"}, "message"),
            ({"run_id": None}, {"Nats-Msg-Id": "message"}, "message"),
            ({}, {}, "JOBS-17"),
            ({"run_id": 7}, {}, "7"),
            ({**ENVELOPE, "payload": {"run_id": "field"}}, {"Nats-Msg-Id": "message"}, "field"),
            ({**ENVELOPE, "payload": {}}, {"Nats-Msg-Id": "message"}, "key-1"),
        ],
    )
    def test_the_first_of_those_that_name_one(self, body, headers, job_id):
        assert accepted(body, headers, FREE).job_id == job_id

    def test_what_leaves_its_id_at_null_is_not_one_job_with_all_others(self):
        assert accepted({"run_id": None}, spec=FREE).job_id == "JOBS-17"
        assert accepted(b'{"run_id" : null }', spec=FREE).job_id == "JOBS-17"

    def test_of_an_id_given_twice_the_last_one_counts_as_in_the_input(self):
        found = accepted(b'{"run_id":"a","run_id":"b"}', spec=FREE)
        assert found.job_id == found.input.run_id == "b"

    @pytest.mark.parametrize("claimed", ["a.b", "*", ">", "a b", "a\nb", "ä", "x" * 129])
    def test_an_id_that_is_no_token_is_hashed_and_kept_beside(self, claimed):
        found = accepted({**TASK, "task_id": claimed})
        assert found.job_id == sha256(claimed.encode()).hexdigest()
        assert found.subject_id == claimed
        assert found.correlation_id == found.job_id
        assert found.input.task_id == claimed

    def test_what_events_repeat_of_an_id_is_bounded(self):
        found = accepted({**ENVELOPE, "correlation_id": "c" * 9_000, "payload": {**TASK, "task_id": "ä" * 9_000}})
        assert found.job_id == sha256(("ä" * 9_000).encode()).hexdigest()
        assert found.subject_id is not None
        assert len(found.subject_id.encode()) <= 512
        assert len(found.correlation_id.encode()) <= 512

    def test_what_a_header_holds_can_always_be_encoded(self):
        headers = {"ce-specversion": "1.0", "ce-id": "\udcff", "ce-correlationid": "c\udcff"}
        found = accepted({}, headers, FREE)
        assert is_token(found.job_id)
        assert (found.subject_id, found.correlation_id) == ("?", "c?")

    def test_a_child_has_the_id_that_its_batch_gave(self):
        headers = {
            "Jetray-Job-Id": "P1-DEV",
            "Jetray-Parent": "plan.P1",
            "Jetray-Index": "2",
            "Jetray-Correlation-Id": "corr-1",
            "traceparent": TRACEPARENT,
        }
        found = accepted(TASK, headers)
        assert (found.job_id, found.subject_id, found.correlation_id) == ("P1-DEV", "T1", "corr-1")
        assert (found.parent, found.index, found.traceparent) == ("plan.P1", 2, TRACEPARENT)

    def test_a_child_that_names_no_id_has_its_batchs_alone(self):
        found = accepted({}, {"Jetray-Job-Id": "B7-a", "Nats-Msg-Id": "variant.B7-a.1"}, FREE)
        assert (found.job_id, found.subject_id) == ("B7-a", None)

    def test_a_moved_or_replayed_message_has_origin_and_run(self):
        found = accepted(TASK, {"Jetray-Origin": "JOBS:3", "Jetray-Run": "2", "Jetray-Job-Id": "T1"})
        assert (found.origin, found.run) == ("JOBS:3", 2)


class TestRefusals:
    @pytest.mark.parametrize(
        ("body", "words"),
        [
            (b"", "truncated"),
            (b" ", "truncated"),
            (b"hello", "malformed"),
            (b"[]", "Expected `object`, got `array`"),
            (b'"T1"', "Expected `object`, got `str`"),
            (b"null", "Expected `object`, got `null`"),
            (json.dumps(TASK).encode()[:-1], "truncated"),
            (json.dumps({**TASK, "rounds": "two"}).encode(), "Expected `int | null`, got `str` - at `$.rounds`"),
            (json.dumps({**TASK, "rounds": 21}).encode(), "$.rounds"),
            (json.dumps({**TASK, "task_id": ""}).encode(), "$.task_id"),
            (json.dumps({**TASK, "rubric": {"quality": 0}}).encode(), "$.rubric"),
            (b'{"task_id":"T1","role":"DEV"}', "missing required field `task_description`"),
            (json.dumps({**TASK, "num_agnets": 3}).encode(), "unknown field `num_agnets`"),
            (b"[" * 100_000, "nested deeper than 64"),
            (b'{"a":' * 100_000, "nested deeper than 64"),
            (b'{"task_id":"T1","x":' + b"[" * 65 + b"]" * 65 + b"}", "nested deeper than 64"),
            (b'{"task_id":"T\xff1"}', "not UTF-8 at byte"),
            (b"\xff\xfe{}", "malformed"),
            (json.dumps(TASK).encode("utf-16"), "malformed"),
            (json.dumps(TASK).replace("T1", "\\ud800").encode(), "surrogate"),
            (b'{"task_id":"T1","task_description":1e999}', "out of range - at `$.task_description`"),
        ],
    )
    def test_what_does_not_decode_says_why_and_has_the_id_of_its_message(self, body, words):
        found = refused(body)
        assert found.error.reason == "decode"
        assert words in found.error.message
        assert not found.error.retryable
        assert found.job_id == "JOBS-17"
        assert found.correlation_id == "JOBS-17"
        assert found.origin == "JOBS:17"

    def test_size_is_checked_before_depth_and_depth_before_decoding(self):
        limits = Limits(input_bytes=100, input_depth=3)
        assert refused(b"[" * 101, limits=limits).error.reason == "too_large"
        assert "nested deeper than 3" in refused(b"[" * 100, limits=limits).error.message
        assert "malformed" in refused(b"x" * 100, limits=limits).error.message

    def test_too_large_names_the_setting(self):
        found = refused(b"x" * 101, limits=Limits(input_bytes=100))
        assert found.error.message == "the input has 101 bytes, the limit is 100 (setting limits.input_bytes)"
        assert found.error.type == "TooLarge"
        assert accepted(json.dumps(TASK).encode(), limits=Limits(input_bytes=len(json.dumps(TASK)))).job_id == "T1"

    @pytest.mark.parametrize(
        ("body", "headers", "claimed"),
        [
            ({**TASK, "rounds": "two"}, {}, "T1"),
            ({"task_id": 5}, {}, "5"),
            ({**ENVELOPE, "payload": {"role": "DEV"}}, {}, "key-1"),
            ({**ENVELOPE, "payload": TASK, "producer": ""}, {}, "key-1"),
            (b"hello", {"ce-specversion": "1.0", "ce-id": "e-1"}, "e-1"),
            (b"hello", {"Nats-Msg-Id": "m-1"}, "m-1"),
            (b"x" * (LIMITS.input_bytes + 1), {"Nats-Msg-Id": "m-1"}, "m-1"),
            (b"hello", {}, None),
        ],
    )
    def test_the_id_that_it_names_is_kept_beside_and_never_taken(self, body, headers, claimed):
        found = refused(body, headers)
        assert found.job_id == "JOBS-17"
        assert found.subject_id == claimed

    @pytest.mark.parametrize("body", [b"hello", b"[" * 100_000, b"x" * (LIMITS.input_bytes + 1), TASK | {"rounds": ""}])
    def test_our_own_id_holds_whatever_the_body_is(self, body):
        found = refused(body, {"Jetray-Job-Id": "P1-DEV", "Jetray-Parent": "plan.P1", "Jetray-Index": "1"})
        assert (found.job_id, found.parent, found.index) == ("P1-DEV", "plan.P1", 1)

    def test_a_refused_message_keeps_the_publishers_correlation(self):
        assert refused({**ENVELOPE, "payload": {}}).correlation_id == "corr-1"
        assert refused(b"hello", {"Jetray-Correlation-Id": "corr-2"}).correlation_id == "corr-2"

    def test_a_long_claim_is_bounded(self):
        found = refused({"task_id": "x" * 9_000})
        assert found.subject_id is not None
        assert len(found.subject_id) <= 512

    def test_a_long_error_is_bounded(self):
        assert len(refused({**TASK, "x" * 9_000: 1}).error.message.encode()) <= 2048

    def test_an_input_type_that_raises_of_its_own_is_refused(self):
        class Picky(Struct):
            parts: int

            def __post_init__(self) -> None:
                divmod(1, self.parts)

        assert refused({"parts": 0}, spec=InputSpec(Picky)).error.message.startswith("ZeroDivisionError: ")
        assert accepted({"parts": 1}, spec=InputSpec(Picky)).job_id == "JOBS-17"

    def test_an_input_that_cannot_be_encoded_again_is_refused(self):
        class Lax(Struct):
            rest: Raw

        found = refused(b'{"rest":"\xff"}', spec=InputSpec(Lax))
        assert found.error.message == "the input cannot be encoded again: not UTF-8 at byte 0"
        assert found.error.reason == "decode"

    def test_a_message_may_be_refused_for_a_reason_found_elsewhere(self):
        error = ErrorInfo(reason="decode", type="DecoderDied", message="ended with status -11")
        headers = {"Jetray-Parent": "plan.P1", "Nats-Msg-Id": "m-1", "traceparent": TRACEPARENT}
        message = Message(subject="jobs.x", headers=headers, body=b"", stream="JOBS", sequence=17)
        found = refuse(message, error)
        assert found.error == error
        assert (found.job_id, found.subject_id, found.parent) == ("JOBS-17", "m-1", "plan.P1")
        assert found.traceparent == TRACEPARENT


class TestHeaders:
    @pytest.mark.parametrize(("text", "seconds"), [("5", 5.0), ("0.5", 0.5), ("1e3", 1000.0)])
    def test_a_deadline_in_seconds(self, text, seconds):
        assert accepted(TASK, {"Jetray-Deadline": text}).deadline_s == seconds

    @pytest.mark.parametrize(
        ("name", "text", "words"),
        [
            *(
                ("Jetray-Deadline", text, "seconds greater than 0")
                for text in ("", "0", "-1", "soon", "nan", "inf", "1e999")
            ),
            *(("Jetray-Run", text, "a whole number from 1") for text in ("", "0", "-1", "1.0", "one", "٣", "9" * 19)),
            *(("Jetray-Index", text, "a whole number from 0") for text in ("", "-1", "1.0", "x", "²", "9" * 19)),
            *(("Jetray-Parent", text, "<kind>.<id>") for text in ("", "plan", "plan.", ".P1", "a.b.c", "plan.P 1")),
            *(
                ("Jetray-Origin", text, "<stream>:<sequence>")
                for text in ("", "JOBS", "JOBS:0", "JOBS:x", "a b:1", ":1")
            ),
        ],
    )
    def test_what_no_header_may_say_is_refused_by_name(self, name, text, words):
        found = refused(TASK, {name: text})
        assert f"header {name} must be {words}" in found.error.message
        assert (found.job_id, found.subject_id) == ("JOBS-17", "T1")

    def test_a_bad_header_does_not_lose_the_others(self):
        headers = {
            "Jetray-Deadline": "soon",
            "Jetray-Job-Id": "P1-DEV",
            "Jetray-Parent": "plan.P1",
            "Jetray-Index": "3",
            "Jetray-Run": "2",
            "Jetray-Origin": "JOBS:3",
        }
        found = refused(TASK, headers)
        assert (found.job_id, found.parent, found.index, found.run) == ("P1-DEV", "plan.P1", 3, 2)
        assert found.origin == "JOBS:3"
        found = refused(TASK, {**headers, "Jetray-Origin": "?", "Jetray-Run": "?", "Jetray-Index": "?"})
        assert (found.parent, found.index, found.run, found.origin) == ("plan.P1", 0, None, "JOBS:17")

    @pytest.mark.parametrize("text", ["", "00-xyz", TRACEPARENT.upper(), TRACEPARENT + "\n", TRACEPARENT[:-1]])
    def test_a_trace_that_is_none_is_left_out(self, text):
        assert accepted(TASK, {"traceparent": text}).traceparent is None
        assert refused(b"hello", {"traceparent": text}).traceparent is None

    def test_a_refused_message_keeps_its_trace(self):
        assert refused(b"hello", {"Traceparent": TRACEPARENT}).traceparent == TRACEPARENT


class TestUnknownFields:
    def test_are_refused_in_our_own_commands(self):
        assert "unknown field `tenant`" in refused({**TASK, "tenant": "x"}).error.message

    def test_are_ignored_in_foreign_domain_events(self):
        found = accepted({**TASK, "tenant": {"a": [1]}}, foreign=True)
        assert found.input == msgspec.convert(TASK, Deliberation)

    def test_are_ignored_by_a_plan_wherever_it_comes_from(self):
        for foreign in (False, True):
            found = accepted({**APPROVED, "title": "x", "event_type": "y"}, spec=PLAN, foreign=foreign)
            assert found.input == msgspec.convert(APPROVED, Plan)

    def test_a_foreign_event_may_be_enveloped(self):
        found = accepted({**ENVELOPE, "payload": {**TASK, "tenant": 1}}, foreign=True)
        assert (found.job_id, found.correlation_id) == ("T1", "corr-1")

    def test_a_foreign_event_that_is_no_object(self):
        assert "Expected `object`" in refused(b"[1]", foreign=True).error.message
        assert accepted(b"[1]", spec=InputSpec(list[int]), foreign=True).input == [1]


class TestIdentity:
    def digest(self, body, spec=PLAN, headers=None):
        return accepted(body, headers, spec, foreign=True).input_sha256

    def test_is_the_sha256_of_the_canonical_input_without_what_is_not_part_of_it(self):
        expected = sha256(b'{"plan_id":"P1","roles":["DEV"],"story_id":"S1"}').hexdigest()
        assert self.digest({**APPROVED, "roles": ["DEV"]}) == expected

    @pytest.mark.parametrize("change", [{"approved_by": "b"}, {"timestamp": "later"}, {"title": "new"}, {"roles": []}])
    def test_the_same_plan_approved_again_is_the_same_input(self, change):
        assert self.digest({**APPROVED, **change}) == self.digest(APPROVED)

    @pytest.mark.parametrize("change", [{"story_id": "S2"}, {"plan_id": "P2"}, {"roles": ["DEV"]}])
    def test_anything_else_makes_another_input(self, change):
        assert self.digest({**APPROVED, **change}) != self.digest(APPROVED)

    def test_the_order_of_roles_counts_and_the_order_of_keys_does_not(self):
        assert self.digest({**APPROVED, "roles": ["A", "B"]}) != self.digest({**APPROVED, "roles": ["B", "A"]})
        assert self.digest(dict(reversed(APPROVED.items()))) == self.digest(APPROVED)

    def test_neither_the_form_nor_white_space_counts(self):
        bare = self.digest(TASK, DELIBERATION)
        assert self.digest({**ENVELOPE, "payload": TASK}, DELIBERATION) == bare
        assert self.digest(json.dumps(TASK, indent=4).encode(), DELIBERATION) == bare
        event = {"specversion": "1.0", "id": "e", "data": TASK}
        assert self.digest(event, DELIBERATION, {"content-type": "application/cloudevents+json"}) == bare

    def test_a_default_spelled_out_is_the_same_input(self):
        spelled: dict[str, Any] = {**TASK, "agents": [], "quorum": None, "constraints": {"metadata": {}}}
        assert self.digest(spelled, DELIBERATION) == self.digest(TASK, DELIBERATION)

    def test_numbers_are_compared_as_the_kind_reads_them(self):
        one = {**TASK, "rubric": {"quality": 1, "tests": 2.5}}
        other = {**TASK, "rubric": {"tests": 2.50, "quality": 1.0}}
        assert self.digest(one, DELIBERATION) == self.digest(other, DELIBERATION)

    def test_an_input_with_keys_that_are_no_text(self):
        spec: InputSpec[Any] = InputSpec(dict[int, str])
        assert self.digest({"2": "b", "10": "a"}, spec) == sha256(b'{"10":"a","2":"b"}').hexdigest()


HEADER_NAMES = st.sampled_from(
    [
        "Jetray-Job-Id",
        "Jetray-Deadline",
        "Jetray-Run",
        "Jetray-Index",
        "Jetray-Parent",
        "Jetray-Origin",
        "Jetray-Correlation-Id",
        "traceparent",
        "content-type",
        "ce-specversion",
        "ce-id",
        "ce-correlationid",
        "Nats-Msg-Id",
    ]
)
HEADERS = st.dictionaries(
    HEADER_NAMES | st.text(max_size=5),
    st.text(st.characters(exclude_categories=()), max_size=20)
    | st.sampled_from(["application/cloudevents+json", "1", "plan.P1", "JOBS:3", "T1"]),
    max_size=5,
)
TEXTS = ("task_id", "T1", "payload", "idempotency_key", "data", "data_base64", "id", "specversion", "1.0", "\\ud800")
SCRAPS = st.sampled_from([f'"{text}"'.encode() for text in TEXTS]) | st.sampled_from(
    [b"{", b"}", b"[", b"]", b'"', b"\\", b":", b",", b"null", b"1e999", b"\xff", b"9" * 400, b"9" * 5000]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(
    st.sampled_from([*TASK, *ENVELOPE, *APPROVED, "payload", "run_id", "rounds", "inner", "id", "specversion", "data"]),
    VALUES | st.fixed_dictionaries({name: st.text(max_size=6) for name in TASK}),
    max_size=9,
).map(lambda value: json.dumps(value).encode())
BODIES = st.binary(max_size=80) | st.lists(SCRAPS, max_size=25).map(b"".join) | OBJECTS
SPECS = st.sampled_from([DELIBERATION, PLAN, FREE, InputSpec(Nested), InputSpec(Any), InputSpec(dict[str, Raw])])


@settings(max_examples=150)
@given(BODIES, HEADERS, SPECS, st.booleans(), st.sampled_from([LIMITS, Limits(input_bytes=20, input_depth=2)]))
def test_whatever_comes_there_is_an_answer(body, headers, spec, foreign, limits):
    found = take(body, headers, spec, foreign=foreign, limits=limits)
    assert is_token(found.job_id)
    for text in (found.subject_id or "", found.correlation_id, found.origin):
        assert len(text.encode()) <= 512
    if isinstance(found, Refused):
        assert found.error.reason in ("decode", "too_large")
        assert len(found.error.message.encode()) <= 2048
        assert found.job_id in ("JOBS-17", headers.get("Jetray-Job-Id"))
    else:
        again = take(body, headers, spec, foreign=foreign, limits=limits)
        assert found.input_sha256 == again.input_sha256
