"""Artifacts in memory, for tests."""

from __future__ import annotations

from hashlib import sha256

from contracts.events import Artifact
from infra.store.base import Missing

__all__ = ["MemoryStore"]


class MemoryStore:
    """See `infra.store.base.Store`."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}

    async def put(self, name: str, data: bytes) -> Artifact:
        """Keep `data`."""
        uri = f"memory://{name}"
        self._kept[uri] = data
        return Artifact(name=name, uri=uri, bytes=len(data), sha256=sha256(data).hexdigest())

    async def get(self, uri: str) -> bytes:
        """What is kept under a URI."""
        try:
            return self._kept[uri]
        except KeyError as error:
            raise Missing(f"there is no artifact {uri}") from error
