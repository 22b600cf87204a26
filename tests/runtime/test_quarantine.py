"""Decoding in a child process. In real time: no virtual clock waits for a process."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import anyio
import pytest
from msgspec.structs import replace

from contracts import inbound
from contracts.errors import ErrorInfo
from infra.bus.base import Delivery
from tests.runtime.deadly import deadly
from tests.runtime.elsewhere import borrowed
from tests.runtime.samples import NOW
from workers.kinds.registry import Kind
from workers.runtime import intake, quarantine
from workers.runtime.intake import Intake
from workers.runtime.quarantine import Quarantine, Undecided
from workers.runtime.taster import Taster

pytestmark = [pytest.mark.slow, pytest.mark.anyio]

LIMITS = inbound.Limits()
MODULES = ["tests.runtime.deadly", "tests.runtime.elsewhere"]


@pytest.fixture
def anyio_backend() -> str:
    """Real time."""
    return "asyncio"


def _message(text: str) -> inbound.Message:
    body = b'{"text":"%s"}' % text.encode()
    return inbound.Message(subject="jobs.deadly", headers={}, body=body, stream="JOBS", sequence=1)


async def _tried(text: str, kind: Kind = deadly) -> ErrorInfo | None:
    return await Quarantine(MODULES).try_out(_message(text), kind, LIMITS, foreign=False)


@pytest.mark.parametrize("text", ["harmless", "raise", '"not JSON'])
async def test_what_can_be_read_passes_whatever_it_holds(text: str) -> None:
    assert await _tried(text) is None


@pytest.mark.parametrize(
    ("text", "how"),
    [
        ("die", "ended with status 3"),
        ("crash", "was ended by SIGSEGV"),
        ("leaves", "ended with status 70"),
        ("vanish", "ended with status 0"),
    ],
)
async def test_a_decoder_that_dies_is_an_answer(text: str, how: str) -> None:
    error = await _tried(text)
    assert error is not None
    assert (error.reason, error.type, error.retryable) == ("decode", "DecoderDied", False)
    assert error.message.endswith(how)


@pytest.mark.parametrize(
    ("text", "how"),
    [
        ("killed", "was ended by SIGKILL"),
        ("stopped", "was ended by SIGTERM"),
        ("hang", "took longer than 2 s"),
    ],
)
async def test_a_death_from_outside_is_none_until_it_happened_too_often(
    monkeypatch: pytest.MonkeyPatch, text: str, how: str
) -> None:
    monkeypatch.setattr(quarantine, "PATIENCE_S", 2.0 if text == "hang" else 30.0)
    monkeypatch.setattr(quarantine, "TRIES", 3)
    room = Quarantine(MODULES)
    delays = []
    for _ in range(2):
        with pytest.raises(Undecided, match=how) as undecided:
            await room.try_out(_message(text), deadly, LIMITS, foreign=False)
        delays.append(undecided.value.delay_s)
    assert delays == [quarantine.DELAY_S, 2 * quarantine.DELAY_S]
    error = await room.try_out(_message(text), deadly, LIMITS, foreign=False)
    assert error is not None
    assert error.message.endswith(f"{how}, at try 3")
    with pytest.raises(Undecided, match=how):
        # The count begins anew, as for another message.
        await room.try_out(_message(text), deadly, LIMITS, foreign=False)


async def test_a_python_that_cannot_start_is_no_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "msgspec.py").write_text("raise OSError(24, 'Too many open files')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(Undecided, match="ended with status 1"):
        await _tried("die")


async def test_where_no_process_can_be_started_the_message_waits_and_that_is_no_try(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quarantine, "TRIES", 2)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    room = Quarantine(MODULES)
    for _ in range(5):
        with pytest.raises(
            Undecided, match=r"no process could be started to decode it in: .*No such file"
        ) as undecided:
            await room.try_out(_message("harmless"), deadly, LIMITS, foreign=False)
        assert undecided.value.delay_s == quarantine.DELAY_S


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "REMEMBERED", 2)
    room = Quarantine(MODULES)

    async def killed(taster: object, suspect: object) -> int:
        return -signal.SIGKILL

    monkeypatch.setattr(Taster, "taste", killed)
    for sequence in range(5):
        message = replace(_message("killed"), sequence=sequence)
        with pytest.raises(Undecided):
            await room.try_out(message, deadly, LIMITS, foreign=False)
    assert [*room._undecided] == [("JOBS", 3), ("JOBS", 4)]


async def test_a_kind_made_of_another_modules_function_can_be_tried_too() -> None:
    assert await _tried("harmless", borrowed) is None


@pytest.mark.parametrize("modules", [[], ["no.such.module"]])
async def test_a_kind_that_the_child_does_not_find_speaks_against_no_message(modules: list[str]) -> None:
    assert await Quarantine(modules).try_out(_message("die"), deadly, LIMITS, foreign=False) is None


async def test_a_crowd_of_suspects_shares_one_child_and_the_last_one_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    counted, ended = _counting(monkeypatch)
    room = Quarantine(MODULES)
    found: dict[int, ErrorInfo | None] = {}

    async def one(sequence: int, text: str) -> None:
        message = replace(_message(text), sequence=sequence)
        found[sequence] = await room.try_out(message, deadly, LIMITS, foreign=False)

    async with anyio.create_task_group() as group:
        for sequence in range(50):
            group.start_soon(one, sequence, "die" if sequence == 20 else "harmless")
    assert [sequence for sequence, error in found.items() if error is not None] == [20]
    # The first one dies of a message that came after others, so a second one tells whose fault it was.
    assert counted == ended
    assert len(counted) == 3


async def test_who_is_cancelled_takes_the_child_along_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    counted, ended = _counting(monkeypatch)
    room = Quarantine(MODULES)
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: room.try_out(_message("hang"), deadly, LIMITS, foreign=False))
        await anyio.wait_all_tasks_blocked()
        after = anyio.CancelScope()

        async def waits_its_turn() -> None:
            with after:
                await room.try_out(_message("harmless"), deadly, LIMITS, foreign=False)

        group.start_soon(waits_its_turn)
        await anyio.wait_all_tasks_blocked()
        after.cancel()
        while not counted:  # noqa: ASYNC110  a process that starts tells nobody
            await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    assert counted == ended
    assert len(counted) == 1
    assert await room.try_out(_message("harmless"), deadly, LIMITS, foreign=False) is None
    assert counted == ended


def _counting(monkeypatch: pytest.MonkeyPatch) -> tuple[list[Taster], list[Taster]]:
    """Every child that was started, and those that were ended, in order."""
    started: list[Taster] = []
    ended: list[Taster] = []
    really_start, really_close = Taster.start, Taster.close

    async def start(modules: list[str]) -> Taster:
        started.append(await really_start(modules))
        return started[-1]

    async def close(taster: Taster) -> None:
        ended.append(taster)
        await really_close(taster)

    monkeypatch.setattr(Taster, "start", start)
    monkeypatch.setattr(Taster, "close", close)
    return started, ended


class _Asked(Quarantine):
    def __init__(self) -> None:
        self.asked: list[int] = []

    async def try_out(
        self, message: inbound.Message, kind: Kind, limits: inbound.Limits, *, foreign: bool
    ) -> ErrorInfo | None:
        self.asked.append(message.sequence)
        if b"harmless" in message.body:
            return None
        return ErrorInfo(reason="decode", type="DecoderDied", message="it died")


def _delivery(number: int, sequence: int = 5, text: str = "deadly") -> Delivery:
    return Delivery(
        subject="jobs.deadly",
        headers={"Nats-Msg-Id": "claimed"},
        body=b'{"text":"%s"}' % text.encode(),
        stream="JOBS",
        consumer="deadly",
        sequence=sequence,
        number=number,
        stored=NOW,
        pending=0,
        token="",
    )


@pytest.mark.parametrize(("number", "is_asked"), [(1, False), (2, False), (3, True), (17, True)])
async def test_from_its_third_delivery_on_a_message_is_suspect(number: int, is_asked: bool) -> None:
    asked = _Asked()
    received = await Intake(LIMITS, asked).receive(_delivery(number), deadly)
    assert asked.asked == [5] * is_asked
    assert (received.error is not None) is is_asked
    assert (received.ticket.job_id, received.ticket.subject_id) == (
        ("JOBS-5", "claimed") if is_asked else ("claimed", None)
    )


async def test_what_this_process_decoded_and_survived_is_no_suspect_when_it_comes_again() -> None:
    asked = _Asked()
    room = Intake(LIMITS, asked)
    for number in range(1, 6):
        assert (await room.receive(_delivery(number, text="harmless"), deadly)).error is None
    assert asked.asked == [], "plain retries cost no process"
    for number in range(3, 6):
        await room.receive(_delivery(number, sequence=6, text="harmless"), deadly)
    assert asked.asked == [6], "one that another process had before is tried out once"
    await room.receive(_delivery(3, sequence=7), deadly)
    await room.receive(_delivery(4, sequence=7), deadly)
    assert asked.asked == [6, 7, 7], "one that was refused was not decoded here"


async def test_what_is_survived_is_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "SURVIVED", 2)
    asked = _Asked()
    room = Intake(LIMITS, asked)
    for sequence in (1, 2, 3):
        await room.receive(_delivery(1, sequence=sequence, text="harmless"), deadly)
    for sequence in (1, 2, 3):
        await room.receive(_delivery(3, sequence=sequence, text="harmless"), deadly)
    assert asked.asked == [1, 2, 3], "the first was forgotten, and each that comes in again puts another one out"
    assert len(room._survived) == 2
