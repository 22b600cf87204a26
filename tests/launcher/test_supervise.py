"""Keeping a service alive, under virtual time."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from itertools import pairwise

import anyio
import pytest

from infra.bus.embedded import ServerMissing
from workers.launcher import exits
from workers.launcher.supervise import Pauses, first_of, kept
from workers.testing import virtual_time

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return virtual_time()


PAUSES = Pauses()


class Scripted:
    """A service whose lives are given: seconds to serving, seconds from there to the end, and how it ends."""

    name = "it"

    def __init__(self, *lives: tuple[float | None, float, int | Exception]) -> None:
        self._lives = list(lives)
        self.starts: list[float] = []
        self.stopped = False

    async def run(self, serving: Callable[[], None]) -> int:
        self.starts.append(anyio.current_time())
        to_serving, to_end, how = self._lives.pop(0)
        try:
            if to_serving is not None:
                await anyio.sleep(to_serving)
                serving()
            await anyio.sleep(to_end)
        except anyio.get_cancelled_exc_class():
            self.stopped = True
            raise
        if isinstance(how, Exception):
            raise how
        return how


FOREVER = (0.0, float("inf"), 0)


async def lived(service: Scripted, seconds: float, pauses: Pauses | None = PAUSES) -> list[str]:
    """What was said while the service was kept for so long."""
    said: list[str] = []
    async with kept(service, said.append, pauses=pauses):
        await anyio.sleep(seconds)
    return said


def intervals(times: Iterable[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times)]


async def test_what_dies_is_started_again_after_pauses_that_grow():
    service = Scripted(*[(0.0, 0.0, 1)] * 9, FOREVER)

    said = await lived(service, 300)

    assert intervals(service.starts) == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    assert said[0] == "it ended with exit status 1; starting it again in 0.5 s"
    assert service.stopped


async def test_a_long_life_makes_the_pauses_short_again():
    service = Scripted((0, 0, 1), (0, 0, 1), (0, 31, 1), FOREVER)

    await lived(service, 100)

    assert intervals(service.starts) == [0.5, 1.0, 31.5]


async def test_how_it_ended_and_that_it_serves_again_is_said():
    service = Scripted((1.0, 1.0, -signal.SIGKILL), FOREVER)

    assert await lived(service, 10) == [
        "it was ended by SIGKILL; starting it again in 0.5 s",
        "it serves again",
    ]


async def test_what_ends_well_without_being_asked_is_started_again_too():
    service = Scripted((0.0, 1.0, 0), FOREVER)

    assert (await lived(service, 10))[0] == "it ended with exit status 0; starting it again in 0.5 s"


async def test_serving_is_told_once_it_serves_and_not_before():
    service = Scripted((None, 1.0, 1), (2.0, 100.0, 0))

    async with kept(service, print, pauses=PAUSES) as serving:
        began = anyio.current_time()
        await serving.wait()
        assert anyio.current_time() - began == pytest.approx(1.0 + 0.5 + 2.0)


async def test_a_wrong_configuration_is_final():
    service = Scripted((None, 1.0, exits.CONFIG), FOREVER)

    with pytest.raises(ExceptionGroup) as failed:
        await lived(service, 10)
    assert failed.group_contains(exits.Misconfigured, match="^it says that its configuration is wrong$")
    assert len(service.starts) == 1


async def test_without_pauses_the_first_death_is_the_end():
    with pytest.raises(ExceptionGroup) as failed:
        await lived(Scripted((0.0, 1.0, 3)), 10, pauses=None)
    assert failed.group_contains(exits.Failure, match="^it ended with exit status 3$")


async def test_a_server_that_never_started_is_final():
    with pytest.raises(ExceptionGroup) as failed:
        await lived(Scripted((None, 1.0, ServerMissing("the port is taken"))), 10)
    assert failed.group_contains(ServerMissing)


async def test_a_server_that_was_there_before_is_tried_again():
    service = Scripted((0.0, 1.0, 1), (None, 1.0, ServerMissing("the port is taken")), FOREVER)

    said = await lived(service, 10)

    assert said[1] == "it did not start (the port is taken); starting it again in 1 s"
    assert said[2] == "it serves again"


async def test_first_of_returns_with_the_first_and_cancels_the_others():
    ended = []

    async def wait(seconds: float) -> None:
        try:
            await anyio.sleep(seconds)
            ended.append(seconds)
        finally:
            ended.append(-seconds)

    began = anyio.current_time()
    await first_of(lambda: wait(5), lambda: wait(2), lambda: wait(9))

    assert anyio.current_time() - began == 2
    assert ended[:2] == [2, -2]
    assert sorted(ended[2:]) == [-9, -5]
