"""The store as the runtime sees it."""

from __future__ import annotations

from typing import IO, Protocol

from contracts.events import Artifact

__all__ = ["FileStore", "Missing", "Store", "StoreError", "Unfit"]


class StoreError(Exception):
    """An artifact could not be kept or fetched."""


class Missing(StoreError):
    """There is no such artifact: it was never kept, or is no longer."""


class Unfit(StoreError):
    """The operator's settings or packages stand in the way."""


class Store(Protocol):
    """Keeps artifacts by name. What is there under a name is whole."""

    async def put(self, name: str, data: bytes) -> Artifact:
        """Keep `data`; the same name again replaces it. Raises `StoreError`, or the bus's errors."""
        ...

    async def get(self, uri: str) -> bytes:
        """What is kept under a URI that `put` gave. Raises `Missing` where there is nothing, else as `put`."""
        ...


class FileStore(Protocol):
    """Keeps files below one URI, for the places where jobs run. Its methods block, and may be called in any thread."""

    def keep(self, name: str, data: IO[bytes]) -> str:
        """Keep all of `data`, from its beginning, unless something is kept under that name; its URI.

        What is there under a name is whole. Raises `StoreError`.
        """
        ...

    def fetch(self, uri: str, into: IO[bytes]) -> None:
        """Write what is kept under a URI below the store's own into a file, in place of what that held.

        Raises `Missing` where there is nothing, else as `keep`; the file may hold a part by then.
        """
        ...
