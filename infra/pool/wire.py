"""What a gateway and its child process say to each other: msgpack, each message with its length in front."""

from __future__ import annotations

import struct
from typing import Final

import msgspec
from msgspec import Struct

from contracts import codec
from contracts.errors import ErrorInfo

__all__ = [
    "LENGTH",
    "Begin",
    "Cancel",
    "Down",
    "Ended",
    "Hello",
    "Ping",
    "Pong",
    "Ready",
    "Refused",
    "Said",
    "Up",
    "decode_down",
    "decode_up",
    "packed",
]

LENGTH: Final = struct.Struct("!I")
"""How long a message is, before each."""


class Hello(Struct, frozen=True, tag="hello"):
    """To the child, first: what it is to build, and where Python finds it."""

    factory: str
    config: bytes
    path: list[str]
    """The gateway's `sys.path`."""
    python_path: str | None
    """`PYTHONPATH` as user code is to find it."""
    mark: int
    """The number of the birthmark of all that it starts."""


class Begin(Struct, frozen=True, tag="begin"):
    """To the child: run this call, and say how it ended before the next one comes."""

    call: bytes


class Cancel(Struct, frozen=True, tag="cancel"):
    """To the child: ask this job to stop."""

    job: str


class Ping(Struct, frozen=True, tag="ping"):
    """To the child: does its loop run?"""


class Pong(Struct, frozen=True, tag="pong"):
    """From the child: it does."""

    resident: int
    """Bytes of resident memory."""


class Ready(Struct, frozen=True, tag="ready"):
    """From the child, first: it takes calls."""


class Refused(Struct, frozen=True, tag="refused"):
    """From the child, first and last: it cannot run anything."""

    error: ErrorInfo


class Said(Struct, frozen=True, tag="said"):
    """From the child: a frame."""

    frame: bytes


class Ended(Struct, frozen=True, tag="ended"):
    """From the child: the outcome."""

    outcome: bytes


Down = Hello | Begin | Cancel | Ping
Up = Ready | Refused | Said | Ended | Pong

_encoder = msgspec.msgpack.Encoder()
_down: msgspec.msgpack.Decoder[Down] = msgspec.msgpack.Decoder(Down)
_up: msgspec.msgpack.Decoder[Up] = msgspec.msgpack.Decoder(Up)


def packed(message: Down | Up) -> bytes:
    """A message as it goes through the pipe."""
    data = _encoder.encode(message)
    return LENGTH.pack(len(data)) + data


def decode_down(data: bytes) -> Down:
    """What the gateway said; `codec.Undecodable` where it is nothing that it says."""
    message: Down = codec.decode(_down, data)
    return message


def decode_up(data: bytes) -> Up:
    """What the child said; `codec.Undecodable` where it is nothing that it says."""
    message: Up = codec.decode(_up, data)
    return message
