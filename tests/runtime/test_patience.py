"""Waiting and repeating: the pauses, the words in the log, and what is not waited for."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import pytest

from infra.bus.base import BusError, Disconnected, NoAnswer, NoSuchSubject, StreamFull, TooLarge
from infra.store.base import StoreError
from workers.runtime.patience import LAST_WAIT_S, REMIND_S, patiently

pytestmark = pytest.mark.anyio

FULL = StreamFull(503, 10077, "maximum bytes exceeded")


class _Failing:
    """Fails until `ends`, and then returns when it was called."""

    def __init__(self, error: Exception, ends: float) -> None:
        self.calls: list[float] = []
        self._error = error
        self._ends = anyio.current_time() + ends

    async def __call__(self) -> float:
        self.calls.append(anyio.current_time())
        if anyio.current_time() < self._ends:
            raise self._error
        return anyio.current_time()


@pytest.mark.parametrize("error", [Disconnected("no"), NoAnswer("no"), StoreError("no"), FULL], ids=repr)
async def test_pauses_double_and_stay_below_a_bound(error: Exception) -> None:
    failing = _Failing(error, 60)
    assert await patiently(failing, what="it") <= 60 + LAST_WAIT_S
    pauses = [later - earlier for earlier, later in itertools.pairwise(failing.calls)]
    assert pauses[0] == pytest.approx(0.02)
    assert all(later >= earlier - 1e-6 for earlier, later in itertools.pairwise(pauses))
    assert pauses[-1] == pytest.approx(LAST_WAIT_S)
    assert len(pauses) <= 60 / LAST_WAIT_S + 10


@pytest.mark.parametrize(
    ("error", "unless"),
    [(TooLarge("s", 2, 1), ()), (NoSuchSubject(503, 0, "none"), (NoSuchSubject,))],
    ids=["too large", "unless"],
)
async def test_what_waiting_does_not_mend_is_raised_at_once(
    error: BusError, unless: tuple[type[BusError], ...]
) -> None:
    began = anyio.current_time()
    with pytest.raises(type(error)):
        await patiently(_Failing(error, 60), what="it", unless=unless)
    assert anyio.current_time() == began


async def test_the_log_has_one_line_at_once_and_then_one_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    await patiently(_Failing(NoAnswer("no answer"), 3 * REMIND_S - 10), what="append of a")
    assert [record.message for record in caplog.records] == ["append of a waits: no answer"] * 3


async def test_an_outage_is_told_by_the_bus_and_not_by_all_who_wait_for_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    await patiently(_Failing(Disconnected("no"), 600), what="it")
    assert caplog.records == []


async def test_a_full_stream_is_told_once_and_left_again(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[str] = []

    @contextmanager
    def when_full(error: StreamFull) -> Iterator[None]:
        heard.append(str(error))
        try:
            yield
        finally:
            heard.append("left")

    await patiently(_Failing(FULL, 30), what="it", when_full=when_full)
    assert heard == [str(FULL), "left"]
    heard.clear()
    with anyio.move_on_after(10):
        await patiently(_Failing(FULL, 30), what="it", when_full=when_full)
    assert heard == [str(FULL), "left"], "also by whoever gives up"
    assert caplog.records == [], "whoever hears of it says so"
