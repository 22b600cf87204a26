"""Tests of the runtime run in virtual time, on trio."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.runtime.world import World, serving
from workers.testing import virtual_time


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Virtual time: an hour passes in milliseconds."""
    return virtual_time()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A bus in memory. After the test every job must have ended, every slot be free and nothing be in hand."""
    async with serving() as world:
        yield world
