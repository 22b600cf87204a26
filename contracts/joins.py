"""Notices that a child of a batch ended, on `joins.<kind>.<parent id>`: what a child's end owes."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from contracts import codec

__all__ = ["ChildOutcome", "Notice", "decode", "encode"]

ChildOutcome = Literal["completed", "failed", "cancelled", "refused"]


class Notice(Struct, frozen=True, kw_only=True):
    """A child ended, or was refused. Posted by whoever appended or found that end with the child's message in hand."""

    child: str
    """`<kind>.<id>`."""
    index: Annotated[int, Meta(ge=0)]
    """The child's place among its siblings."""
    outcome: ChildOutcome
    """`refused` counts only if the child's log does not name this parent."""
    run: Annotated[int, Meta(ge=1)]
    sequence: Annotated[int, Meta(ge=0)]
    """Of the end in `EVENTS`; for `refused`, of the dead letter in `DLQ`."""


_decoder = msgspec.json.Decoder(Notice)
_encoder = msgspec.json.Encoder()


def encode(notice: Notice) -> bytes:
    """The notice as compact JSON."""
    return _encoder.encode(notice)


def decode(body: bytes) -> Notice:
    """The notice that `body` holds; `codec.Undecodable` where it holds none."""
    return codec.decode(_decoder, body)
