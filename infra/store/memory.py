"""Artifacts in memory, for tests."""

from __future__ import annotations

from hashlib import sha256
from typing import IO

from contracts.events import Artifact
from infra.store.base import Missing
from infra.store.uris import above, below

__all__ = ["MemoryFiles", "MemoryStore"]


class MemoryStore:
    """See `infra.store.base.Store`."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        """By URI."""

    async def put(self, name: str, data: bytes) -> Artifact:
        """Keep `data`."""
        uri = f"memory://{name}"
        self.kept[uri] = data
        return Artifact(name=name, uri=uri, bytes=len(data), sha256=sha256(data).hexdigest())

    async def get(self, uri: str) -> bytes:
        """What is kept under a URI."""
        try:
            return self.kept[uri]
        except KeyError as error:
            raise Missing(f"there is no artifact {uri}") from error


class MemoryFiles:
    """See `infra.store.base.FileStore`. What a `MemoryStore` keeps it has, and the other way round."""

    def __init__(self, store: MemoryStore, root: str = "memory://") -> None:
        self._kept = store.kept
        self._root = root

    def keep(self, name: str, data: IO[bytes]) -> str:
        """Keep all of `data`."""
        uri = above(self._root, name)
        below(uri, self._root)
        data.seek(0)
        self._kept.setdefault(uri, data.read())
        return uri

    def fetch(self, uri: str, into: IO[bytes]) -> None:
        """Write what is kept under a URI."""
        below(uri, self._root)
        if uri not in self._kept:
            raise Missing(f"there is no {uri}")
        into.seek(0)
        into.truncate()
        into.write(self._kept[uri])
