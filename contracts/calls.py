"""What crosses between a gateway and the place where a job runs: a call there, frames and one outcome back.

It crosses as msgpack, so that nothing that came off the bus is ever unpickled.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from contracts import codec
from contracts.errors import ErrorInfo
from contracts.events import Artifact, Moved, TrackedFile

__all__ = [
    "Call",
    "Emitted",
    "Frame",
    "Gone",
    "Outcome",
    "Raised",
    "Ran",
    "Reported",
    "Returned",
    "Tracked",
    "TrackingFailed",
    "decode_call",
    "decode_calls",
    "decode_ran",
    "decode_reply",
    "encode",
    "encode_many",
]


class Call(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One attempt at one job."""

    kind: str
    job_id: str
    run: int
    attempt: int
    input: bytes
    """The decoded input, encoded again as JSON."""
    deadline: float
    """Seconds since the epoch, by the server's clock: the attempt's or the job's, whichever is nearer."""
    timeout_s: float
    """What was left of it when the call was made."""
    exclusive: bool
    """Needs an actor to itself."""
    streams: bool
    """Takes a context, and so may send frames."""
    correlation_id: str = ""
    traceparent: str | None = None
    attempt_deadline: bool = False
    """The deadline is the attempt's own, so another attempt may follow; past the job's none can."""

    @property
    def job(self) -> str:
        """`<kind>.<id>`."""
        return f"{self.kind}.{self.job_id}"


class Reported(Struct, frozen=True, kw_only=True, tag="reported", omit_defaults=True):
    """The job reports progress."""

    done: int | None = None
    total: int | None = None
    message: str | None = None
    step: str | None = None
    eta_ms: int | None = None
    counts: dict[str, int] | None = None


class Emitted(Struct, frozen=True, kw_only=True, tag="emitted"):
    """The job says something, for `agent.<topic>.<name>.<job_id>`."""

    topic: str
    name: str
    body: bytes


class Tracked(Struct, frozen=True, kw_only=True, tag="tracked"):
    """The job's files are stored under one commit."""

    commit: str
    files: list[TrackedFile] | Moved


class TrackingFailed(Struct, frozen=True, kw_only=True, tag="tracking_failed"):
    """The job's files could not be tracked."""

    error: ErrorInfo
    files: list[str] | Moved
    """Those that were refused."""


class Returned(Struct, frozen=True, kw_only=True, tag="returned", omit_defaults=True):
    """The job succeeded."""

    result: bytes
    """As JSON."""
    artifacts: list[Artifact] = []


class Raised(Struct, frozen=True, kw_only=True, tag="raised", omit_defaults=True):
    """The job's own code failed, or said how it wants to go on."""

    error: ErrorInfo
    retry_after_s: float | None = None
    """When the kind says how long to wait; None leaves it to the policy."""


class Gone(Struct, frozen=True, kw_only=True, tag="gone"):
    """What ran the job died, or could not be started."""

    error: ErrorInfo


Frame = Reported | Emitted | Tracked | TrackingFailed
Outcome = Returned | Raised | Gone


class Ran(Struct, frozen=True):
    """What became of calls that ran one after the other."""

    outcomes: list[Outcome]
    """In the order of the calls."""
    seconds: float
    """What they took where they ran, without the way there and back."""


_encoder = msgspec.msgpack.Encoder()
_calls = msgspec.msgpack.Decoder(Call)
_replies: msgspec.msgpack.Decoder[Frame | Outcome] = msgspec.msgpack.Decoder(Frame | Outcome)
_call_lists = msgspec.msgpack.Decoder(list[Call])
_ran = msgspec.msgpack.Decoder(Ran)


def encode(value: Call | Frame | Outcome | Ran) -> bytes:
    """As msgpack."""
    return _encoder.encode(value)


def decode_call(data: bytes) -> Call:
    """The call that `data` holds; `codec.Undecodable` where it holds none."""
    return codec.decode(_calls, data)


def decode_reply(data: bytes) -> Frame | Outcome:
    """The frame or outcome that `data` holds; `codec.Undecodable` where it holds none."""
    return codec.decode(_replies, data)


def encode_many(calls: Sequence[Call]) -> bytes:
    """Calls that travel together, as msgpack."""
    return _encoder.encode(calls)


def decode_calls(data: bytes) -> list[Call]:
    """The calls that `data` holds; `codec.Undecodable` where it holds none."""
    return codec.decode(_call_lists, data)


def decode_ran(data: bytes) -> Ran:
    """What `data` says became of calls; `codec.Undecodable` where it says nothing."""
    return codec.decode(_ran, data)
