"""Decoders of what crosses between a gateway and what runs its jobs, and of what models answer."""

from __future__ import annotations

import json
from functools import partial
from typing import Final

import msgspec

from contracts import calls
from contracts.errors import ErrorInfo
from infra.pool import wire
from infra.pool.ray import line
from infra.pool.ray.actor import packed_items, unpacked_items
from tests.contracts.samples import golden
from tests.fuzz.check import Decoder, must, round_trip
from workers.kinds.deliberation.errors import Malformed
from workers.kinds.deliberation.providers import openai

__all__ = ["CALLS"]

_Wire = wire.Hello | wire.Begin | wire.Cancel | wire.Ready | wire.Refused | wire.Said | wire.Ended
_ALL: Final = {name: bytes.fromhex(text.decode()) for name, text in golden("calls").items()}
_CALL: Final = _ALL["call"]
_REPLIES: Final = [data for name, data in _ALL.items() if name != "call"]
_HEAD: Final = wire.LENGTH.size
_ERROR: Final = ErrorInfo(reason="config", type="ConfigError", message="no")
_DOWN: Final[list[_Wire]] = [wire.Hello("m:f", b"{}", ["/a"], None, 7), wire.Begin(_CALL), wire.Cancel("k.J")]
_UP: Final[list[_Wire]] = [wire.Ready(), wire.Refused(_ERROR), wire.Said(_REPLIES[0]), wire.Ended(_REPLIES[-1])]

_MARKS: Final = json.dumps({"tests": {"score": 0.5, "reason": "few"}, "quality": {"score": 1, "reason": "fine"}})
_COMPLETION: Final = {
    "id": "c1",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": _MARKS}, "finish_reason": "stop"}],
    "usage": {"total_tokens": 9},
}
_THOUGHT: Final = {"choices": [{"message": {"content": "<think>hm</think>" + _MARKS, "refusal": None}}]}


def _tail(message: _Wire) -> bytes:
    return wire.packed(message)[_HEAD:]


def _completion(data: bytes) -> bool:
    """A model's answer, and the marks that its text may be."""
    try:
        text = openai._text(openai._read(openai._completions, data, "no completion"))
        must(text == text.strip() != "", "an empty text is taken for an answer")
        marks = openai._read(openai._marks, text.encode(), "no marks")
    except Malformed as error:
        must(len(str(error).encode()) < 2_048, "the error shows the whole answer")
        return False
    must(all(0 <= mark.score <= 1 and mark.reason for mark in marks.values()), "a mark is out of range")
    return True


CALLS: Final[list[Decoder]] = [
    Decoder(
        name="calls.decode_call",
        samples=[_CALL],
        feed=round_trip(calls.decode_call, calls.encode, gives=calls.Call),
    ),
    Decoder(
        name="calls.decode_reply",
        samples=_REPLIES,
        feed=round_trip(calls.decode_reply, calls.encode, gives=(calls.Frame | calls.Outcome).__args__),
    ),
    Decoder(
        name="unpacked_items",
        samples=[packed_items([]), packed_items(_REPLIES[:3])],
        feed=round_trip(unpacked_items, packed_items, gives=list),
    ),
    Decoder(name="wire.decode_down", samples=list(map(_tail, _DOWN)), feed=round_trip(wire.decode_down, _tail)),
    Decoder(name="wire.decode_up", samples=list(map(_tail, _UP)), feed=round_trip(wire.decode_up, _tail)),
    Decoder(
        name="line.decode_asked",
        samples=list(map(msgspec.msgpack.encode, [line.Asked(1, "run", _CALL), line.Asked(2, "pulse", None)])),
        feed=round_trip(line.decode_asked, msgspec.msgpack.encode, gives=line.Asked),
    ),
    Decoder(
        name="line.decode_answered",
        samples=[
            msgspec.msgpack.encode(line.Answered(number, answer, last=True))
            for number, answer in enumerate([_REPLIES[0], True, 7, None])
        ],
        feed=round_trip(line.decode_answered, msgspec.msgpack.encode, gives=line.Answered),
    ),
    Decoder(
        name="model answers",
        samples=[json.dumps(_COMPLETION).encode(), json.dumps(_THOUGHT).encode()],
        feed=_completion,
    ),
    Decoder(
        name="model marks",
        samples=[_MARKS.encode()],
        feed=round_trip(
            partial(openai._read, openai._marks, complaint="no marks"), msgspec.json.encode, refusal=Malformed
        ),
    ),
]
