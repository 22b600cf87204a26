"""Decoding in a child process. In real time: no virtual clock waits for a process."""

from __future__ import annotations

import pytest

from contracts import inbound
from contracts.errors import ErrorInfo
from infra.bus.base import Delivery
from tests.runtime.deadly import deadly
from tests.runtime.elsewhere import borrowed
from tests.runtime.samples import NOW
from workers.kinds.registry import Kind
from workers.runtime import quarantine
from workers.runtime.intake import Intake
from workers.runtime.quarantine import Quarantine

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


@pytest.mark.parametrize(("text", "status"), [("die", "3"), ("crash", "-11")])
async def test_a_decoder_that_dies_is_an_answer(text: str, status: str) -> None:
    error = await _tried(text)
    assert error is not None
    assert (error.reason, error.type, error.retryable) == ("decode", "DecoderDied", False)
    assert error.message.endswith(f"ended with status {status}")


async def test_a_decoder_that_takes_for_ever_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "PATIENCE_S", 1.0)
    error = await _tried("hang")
    assert error is not None
    assert "took longer than 1 s" in error.message


async def test_a_kind_made_of_another_modules_function_can_be_tried_too() -> None:
    assert await _tried("harmless", borrowed) is None


@pytest.mark.parametrize("modules", [[], ["no.such.module"]])
async def test_a_kind_that_the_child_does_not_find_speaks_against_no_message(modules: list[str]) -> None:
    assert await Quarantine(modules).try_out(_message("die"), deadly, LIMITS, foreign=False) is None


class _Asked(Quarantine):
    def __init__(self) -> None:
        self.asked: list[int] = []

    async def try_out(
        self, message: inbound.Message, kind: Kind, limits: inbound.Limits, *, foreign: bool
    ) -> ErrorInfo | None:
        self.asked.append(message.sequence)
        return ErrorInfo(reason="decode", type="DecoderDied", message="it died")


@pytest.mark.parametrize(("number", "is_asked"), [(1, False), (2, False), (3, True), (17, True)])
async def test_from_its_third_delivery_on_a_message_is_suspect(number: int, is_asked: bool) -> None:
    asked = _Asked()
    delivery = Delivery(
        subject="jobs.deadly",
        headers={"Nats-Msg-Id": "claimed"},
        body=b'{"text":"harmless"}',
        stream="JOBS",
        consumer="deadly",
        sequence=5,
        number=number,
        stored=NOW,
        pending=0,
        token="",
    )
    received = await Intake(LIMITS, asked).receive(delivery, deadly)
    assert asked.asked == [5] * is_asked
    assert (received.error is not None) is is_asked
    assert (received.ticket.job_id, received.ticket.subject_id) == (
        ("JOBS-5", "claimed") if is_asked else ("claimed", None)
    )
