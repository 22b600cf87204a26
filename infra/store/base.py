"""The store as the runtime sees it."""

from __future__ import annotations

from typing import Protocol

from contracts.events import Artifact

__all__ = ["Missing", "Store", "StoreError"]


class StoreError(Exception):
    """An artifact could not be kept or fetched."""


class Missing(StoreError):
    """There is no such artifact: it was never kept, or is no longer."""


class Store(Protocol):
    """Keeps artifacts by name. What is there under a name is whole."""

    async def put(self, name: str, data: bytes) -> Artifact:
        """Keep `data`; the same name again replaces it. Raises `StoreError`, or the bus's errors."""
        ...

    async def get(self, uri: str) -> bytes:
        """What is kept under a URI that `put` gave. Raises `Missing` where there is nothing, else as `put`."""
        ...
