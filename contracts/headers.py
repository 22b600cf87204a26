"""Every header name that Jetray reads or writes."""

from __future__ import annotations

import re
from typing import Final

# NATS and JetStream
MSG_ID: Final = "Nats-Msg-Id"
EXPECTED_SEQUENCE: Final = "Nats-Expected-Last-Subject-Sequence"
EXPECTED_FILTER: Final = "Nats-Expected-Last-Subject-Sequence-Subject"

# CloudEvents, binary mode
CE_SPECVERSION: Final = "ce-specversion"
CE_TYPE: Final = "ce-type"
CE_SOURCE: Final = "ce-source"
CE_ID: Final = "ce-id"
CE_SUBJECT: Final = "ce-subject"
CE_TIME: Final = "ce-time"
CE_DATASCHEMA: Final = "ce-dataschema"
CE_CORRELATION: Final = "ce-correlationid"
CONTENT_TYPE: Final = "content-type"
TRACEPARENT: Final = "traceparent"

JSON: Final = "application/json"
CLOUDEVENTS_JSON: Final = "application/cloudevents+json"

# Ours, on messages in
DEADLINE: Final = "Jetray-Deadline"
"""Seconds; a cap on the job's time, never above the operator's."""
JOB_ID: Final = "Jetray-Job-Id"
"""Set by gateways alone (children, replays, moves); publishers are refused it by permission. Holds for any body."""
RUN: Final = "Jetray-Run"
"""The run that a replayed message opens."""
PARENT: Final = "Jetray-Parent"
"""`<kind>.<id>` of the batch that a child belongs to."""
INDEX: Final = "Jetray-Index"
"""A child's place among its siblings, from 0."""
CORRELATION: Final = "Jetray-Correlation-Id"
"""The root's correlation id, handed down to children and replays."""
ORIGIN: Final = "Jetray-Origin"
"""`<stream>:<sequence>` of the message that a log belongs to: on moved messages, and on dead letters."""

# Ours, on dead letters
KIND: Final = "Jetray-Kind"
REASON: Final = "Jetray-Reason"
ATTEMPTS: Final = "Jetray-Attempts"
ORIGIN_SUBJECT: Final = "Jetray-Origin-Subject"
BODY_ARTIFACT: Final = "Jetray-Body-Artifact"
"""URI of the body where it did not fit into the dead letter itself."""
BODY_SHA256: Final = "Jetray-Body-Sha256"
HEADERS_ARTIFACT: Final = "Jetray-Headers-Artifact"
"""URI of the original headers, as a JSON object, where the body went by reference."""
ORIGINAL_PREFIX: Final = "Jetray-Header-"
"""Before the name of each original header: a raw `Nats-Expected-*` or `Nats-TTL` would make the copy refusable."""

_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def can_be_sent(name: str) -> bool:
    """Whether clients send a header of this name. They hand out others too, of which no copy could be sent."""
    return _NAME.fullmatch(name) is not None
