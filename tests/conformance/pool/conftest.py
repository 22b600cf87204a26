"""Each test here runs once for every pool."""

from __future__ import annotations

from functools import partial

import pytest

from infra.pool.memory import MemoryPool
from infra.pool.process import ProcessPool
from infra.pool.ray.cluster import BorrowedRay
from infra.pool.ray.line import Line, Number
from infra.pool.ray.pool import RayPool
from tests.conformance.pool.worlds import World

SETTINGS = [
    "memory",
    "memory on trio",
    pytest.param("process", marks=pytest.mark.slow),
    pytest.param("ray", marks=pytest.mark.ray),
    pytest.param("ray without lines", marks=[pytest.mark.ray, pytest.mark.proof]),
]


@pytest.fixture(params=SETTINGS)
def setting(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def anyio_backend(setting: str) -> str:
    return "trio" if setting.endswith("trio") else "asyncio"


@pytest.fixture
def world(setting: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> World:
    if setting == "process":
        return World(partial(ProcessPool, gateway="gw-1"), one_at_a_time=True)
    if setting.startswith("ray"):
        request.getfixturevalue("ray_session")
        if setting == "ray without lines":
            monkeypatch.setattr(Line, "connect", _nobody_picks_up)
        return World(partial(RayPool, gateway="gw-1", cluster=BorrowedRay()))
    return World(partial(MemoryPool, gateway="gw-1", beat_s=0.05), separate=False)


async def _nobody_picks_up(to: Number) -> Line:
    raise ConnectionRefusedError
