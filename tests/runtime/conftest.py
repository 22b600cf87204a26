"""Tests of the runtime run in virtual time, on trio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from contracts import asyncapi, catalogue
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


@pytest.fixture(scope="session", autouse=True)
def _kinds_are_described_once() -> Iterator[None]:
    """A gateway's start is spent on JSON Schemas for KV `kinds`, and hundreds start here with the same few kinds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue, "describe", _once(catalogue.describe))
        patch.setattr(asyncapi, "document", _once(asyncapi.document))
        yield


def _once(make: Callable[..., Any]) -> Callable[..., Any]:
    made: dict[str, Any] = {}

    def make_once(*given: Any, **named: Any) -> Any:
        key = repr((given, named))
        if key not in made:
            made[key] = make(*given, **named)
        return made[key]

    return make_once
