"""Tests of the runtime run in virtual time, on trio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import msgspec
import pytest

from contracts import asyncapi
from contracts.catalogue import KindInfo
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
def _documents_are_made_once() -> Iterator[None]:
    """Half of a gateway's start is spent on its AsyncAPI document, and hundreds start here with the same kinds."""
    make, made = asyncapi.document, dict[bytes, Any]()

    def document(kinds: Sequence[KindInfo], *, version: str) -> Any:
        key = msgspec.json.encode([kinds, version])
        if key not in made:
            made[key] = make(kinds, version=version)
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncapi, "document", document)
        yield
