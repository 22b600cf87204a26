"""All decoders."""

from __future__ import annotations

from tests.fuzz.calls import CALLS
from tests.fuzz.check import Decoder
from tests.fuzz.inputs import INPUTS
from tests.fuzz.messages import MESSAGES
from tests.fuzz.server import SERVER

__all__ = ["decoders"]


def decoders() -> list[Decoder]:
    """All of them."""
    return [*INPUTS, *MESSAGES, *CALLS, *SERVER]
