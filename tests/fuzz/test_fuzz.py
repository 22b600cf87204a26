"""A short run over every decoder; and that the fuzzer finds what there is to be found."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from random import Random
from typing import Final

import msgspec
import pytest

from tests.fuzz.check import Decoder, must, round_trip
from tests.fuzz.decoders import decoders
from tests.fuzz.mutate import HEAD_END, Mutator
from tests.fuzz.run import Report, fuzz

SAMPLES: Final = [json.dumps({"a": 1, "text": "word", "list": [{"b": 2.5}]}).encode()]


def test_no_decoder_does_what_none_may() -> None:
    report = fuzz(decoders, inputs=20_000, seed=0, processes=1)
    assert report.failures == []
    assert report.inputs == 20_000
    # One that refuses all, or takes all, is not being tried.
    assert set(report.decoded) == set(report.refused) == {decoder.name for decoder in decoders()}


@pytest.mark.parametrize("decoder", decoders(), ids=lambda decoder: decoder.name)
def test_samples_are_valid(decoder: Decoder) -> None:
    assert any(decoder.feed(sample) for sample in decoder.samples)


# What the fuzzer finds. A function builds the decoders, in the child.


def _end_the_process(data: bytes) -> bool:
    if data.count(b"[") > 5:
        os.abort()
    return True


def _never_return(data: bytes) -> bool:
    while b"NaN" in data:
        pass
    return True


def _raise(data: bytes) -> bool:
    return bool(msgspec.json.decode(data))


def _change(data: bytes) -> bool:
    return round_trip(msgspec.json.decode, lambda value: msgspec.json.encode([value]), refusal=ValueError)(data)


def _break(data: bytes) -> bool:
    must(b"\x00" not in data, "a zero")
    return True


def killers() -> list[Decoder]:
    return [Decoder(name="kills", samples=SAMPLES, feed=_end_the_process)]


def sleepers() -> list[Decoder]:
    return [Decoder(name="sleeps", samples=SAMPLES, feed=_never_return)]


def breakers() -> list[Decoder]:
    feeds: dict[str, Callable[[bytes], bool]] = {"raises": _raise, "changes": _change, "breaks": _break}
    return [Decoder(name=name, samples=SAMPLES, feed=feed) for name, feed in feeds.items()]


def test_what_ends_the_process_is_told_with_its_input() -> None:
    report = fuzz(killers, inputs=5_000, seed=0, processes=2)
    assert {failure.decoder for failure in report.failures} == {"kills"}
    assert all("ends the process (status -6)" in failure.what for failure in report.failures)
    assert all(failure.data.count(b"[") > 5 for failure in report.failures)


def test_what_never_comes_back_is_told_with_its_input() -> None:
    report = fuzz(sleepers, inputs=5_000, seed=0, processes=1, busy_s=0.5)
    [failure] = report.failures
    assert failure.what == "does not come back"
    assert b"NaN" in failure.data


def _broken(seed: int) -> Report:
    return fuzz(breakers, inputs=6_000, seed=seed, processes=1)


def test_what_raises_or_breaks_a_law_is_told_and_told_again_by_the_same_seed() -> None:
    report = _broken(3)
    told = {(failure.decoder, re.split("[: ]", failure.what)[0]) for failure in report.failures}
    # How deep a RecursionError lies is up to the Python.
    assert told >= {
        ("raises", "UnicodeDecodeError"),
        ("raises", "DecodeError"),
        ("changes", "Broken"),
        ("breaks", "Broken"),
    }
    assert _broken(3).failures == report.failures
    assert _broken(4).failures != report.failures


BREAKAGES: Final[dict[str, Callable[[bytes], object]]] = {
    "as it was": lambda data: data in SAMPLES,
    "cut short": lambda data: data != SAMPLES[0] and SAMPLES[0].startswith(data),
    "nested beyond any stack": lambda data: max(map(data.count, (b"[", b"{", b"\x91", b"\x81"))) > 1_000,
    "a huge number": lambda data: re.search(rb"\d{4000}", data),
    "a number that is none": lambda data: b"NaN" in data or b"Infinity" in data,
    "not UTF-8": lambda data: b"\xff" in data or b"\xed\xa0\x80" in data,
    "half a surrogate pair": lambda data: b"\\ud800" in data,
    "a zero": lambda data: b"\x00" in data and b"\\u0000" not in data,
    "a key twice": lambda data: data.count(b'"a":') > 1,
    "a long text": lambda data: b"A" * 5_000 in data,
    "another value of some type": lambda data: data != SAMPLES[0] and _is_json(data),
}


def _is_json(data: bytes) -> bool:
    try:
        msgspec.json.decode(data)
    except ValueError:
        return False
    except RecursionError:
        return False
    return True


def test_bytes_break_in_every_way() -> None:
    mutator = Mutator(Random(0))
    broken = [mutator.broken(SAMPLES) for _ in range(20_000)]
    assert [name for name, holds in BREAKAGES.items() if not any(map(holds, broken))] == []


def test_headers_break_too() -> None:
    mutator = Mutator(Random(0))
    heads = [
        mutator.broken([b"x: 1\r\nNats-Msg-Id: k" + HEAD_END + b"{}"]).partition(HEAD_END)[0] for _ in range(5_000)
    ]
    for odd in (b"Jetray-Run", b"noline", b"\xff: 1", b"(x)@: 1", b"NATS-MSG-ID", b"Nats-Msg-Id : "):
        assert any(odd in head for head in heads), odd
