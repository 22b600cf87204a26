"""Decoders of messages: events, notices, headers, commands."""

from __future__ import annotations

import json
from functools import partial, reduce
from operator import or_
from typing import Any, Final

import msgspec

from contracts import catalogue, codec, control, dlq, errors, events, headers, joins, subjects, tokens
from contracts.agents import AgentResponse
from contracts.codec import Undecodable
from contracts.deliberation import DeliberationResult
from contracts.fleet import FLEET_EVENTS, GatewayStatus
from contracts.own_headers import read_own, salvage
from contracts.plan import Plan, PlanResult
from infra.bus.memory.wire import as_sent
from tests.contracts.samples import golden
from tests.fuzz.check import Decoder, must, round_trip
from tests.fuzz.inputs import LOOSE, OWN_HEAD, headers_of
from tests.fuzz.mutate import HEAD_END

__all__ = ["MESSAGES"]

# JSON


def _canonical(data: bytes) -> bool:
    try:
        codec.check_depth(data, 64)
        value = codec.decode(_anything, data)
    except Undecodable:
        return False
    try:
        once = codec.canonical(value)
    except (TypeError, ValueError):
        return False
    must(codec.canonical(codec.decode(_anything, once)) == once, "canonical bytes are not canonical")
    return True


_anything: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder()


def _json(name: str, of: Any, samples: list[bytes]) -> Decoder:
    """A message for which contracts keep no decoder, read as its readers do."""
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(of)
    return Decoder(name=name, samples=samples, feed=round_trip(partial(codec.decode, decoder)))


def _golden(*groups: str, only: str = "") -> list[bytes]:
    return [body for group in groups for name, body in golden(group).items() if name.startswith(only)]


# Headers, subjects, names


def _own_headers(data: bytes) -> bool:
    found = {name.lower(): value for name, value in headers_of(data).items()}
    kept = salvage(found)
    try:
        own = read_own(found)
    except Undecodable:
        own = None
    must(own is None or own == kept, "what can be read is not what is salvaged")
    must(0 <= kept.index < 2**63 and (kept.run is None or 0 < kept.run < 2**63), "a number is out of range")
    must(kept.parent is None or subjects.child_notice(kept.parent), "the parent has no subject")
    return own is not None


def _dead_letter(data: bytes) -> bool:
    original = headers_of(data)
    buried = dlq.dead_headers(
        kind="k", job_id="J", run=1, reason="decode", attempts=1, stream="JOBS", sequence=17, subject="jobs.k",
        original=original,
    )  # fmt: skip
    # What cannot be sent can never be buried, and comes back for ever.
    sent = as_sent("dlq.k.J", buried)
    must(
        not any(name.lower().startswith("nats-") for name in set(sent) - {headers.MSG_ID}), "a header acts on the copy"
    )
    back = dlq.original_headers(sent)
    must(all(original[name].split() == value.split() for name, value in back.items()), "a header comes back another")
    return len(back) == len(original)


def _command(data: bytes) -> bool:
    subject = data.decode("utf-8", "replace")
    try:
        command = control.parse(subject)
    except control.NotACommand:
        return False
    match command:
        case control.Cancel(kind=kind, job_id=job_id):
            again = subjects.cancel(kind, job_id)
        case control.Replay(sequence=sequence):
            again = subjects.replay(sequence)
        case control.Drain(gateway=gateway):
            again = subjects.drain(gateway)
    must(again == subject, "the command came on another subject")
    return True


def _names(data: bytes) -> bool:
    text = data.decode("utf-8", "surrogateescape")
    token = tokens.as_token(text)
    must(tokens.is_token(token) and tokens.as_token(token) == token, "what stands for a name is no token")
    must(tokens.is_token(tokens.short_hash(text)), "what stands for a key is no token")
    must(len(errors.bounded(text, 64).encode()) <= 64, "not bounded")
    must(not set(" .*>\r\n\t\x00").intersection(subjects.route_durable(text)), "no name for a consumer")
    try:
        return subjects.child_notice(text).count(".") == 2
    except tokens.BadToken:
        return False


MESSAGES: Final[list[Decoder]] = [
    Decoder(name="codec.canonical", samples=[json.dumps(LOOSE).encode(), *_golden("kinds")], feed=_canonical),
    Decoder(
        name="events.decode",
        samples=_golden("events"),
        feed=round_trip(events.decode, events.encode, gives=events.LogEvent),
    ),
    Decoder(
        name="joins.decode", samples=_golden("notices"), feed=round_trip(joins.decode, joins.encode, gives=joins.Notice)
    ),
    Decoder(
        name="catalogue.decode",
        samples=[
            catalogue.encode(
                catalogue.describe(
                    name="k",
                    version="1",
                    input_type=Plan,
                    result_type=PlanResult,
                    id_field="plan_id",
                    routes=["planning.plan.approved"],
                    profile=None,
                    deadline_s=60,
                    max_attempts=3,
                )
            )
        ],
        feed=round_trip(catalogue.decode, catalogue.encode, gives=catalogue.KindInfo),
    ),
    _json("fleet events", reduce(or_, FLEET_EVENTS), _golden("fleet")),
    _json("gateway status", GatewayStatus, _golden("status")),
    _json("agent responses", AgentResponse, _golden("agents")),
    _json("deliberation results", DeliberationResult, _golden("kinds", only="deliberation-result")),
    _json("plan results", PlanResult, _golden("kinds", only="plan-result")),
    _json("cancel requests", control.CancelRequest, _golden("control")),
    Decoder(
        name="control.parse",
        samples=[b"control.cancel.score.T1", b"control.replay.17", b"control.drain.gw-1"],
        feed=_command,
    ),
    Decoder(name="own_headers", samples=[OWN_HEAD + HEAD_END], feed=_own_headers),
    Decoder(name="dlq headers", samples=[OWN_HEAD + HEAD_END, b"Nats-TTL: 1\r\nx: y" + HEAD_END], feed=_dead_letter),
    Decoder(name="names", samples=[b"plan.P1", b"P1-DEV", b"planning.*.>", "größe".encode()], feed=_names),
]
