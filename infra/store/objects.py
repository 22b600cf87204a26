"""Artifacts in a NATS object store: the default storage root."""

from __future__ import annotations

import io
from hashlib import sha256
from typing import TYPE_CHECKING

from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from contracts.events import Artifact
from infra.store.base import Missing, StoreError

if TYPE_CHECKING:
    from infra.bus.nats import NatsBus

__all__ = ["ObjectStore"]


class ObjectStore:
    """See `infra.store.base.Store`. `nats object get <bucket> <name>` fetches what is kept."""

    def __init__(self, bus: NatsBus, bucket: str) -> None:
        self._bus = bus
        self._bucket = bucket

    async def put(self, name: str, data: bytes) -> Artifact:
        """Keep `data`; the same name again replaces it."""
        try:
            store = await self._bus.jetstream().object_store(self._bucket)
            await store.put(name, io.BytesIO(data))
        except (NatsError, TimeoutError) as error:
            raise StoreError(f"{name} cannot be kept in object store {self._bucket}: {error!r}") from error
        return Artifact(name=name, uri=self._prefix + name, bytes=len(data), sha256=sha256(data).hexdigest())

    async def get(self, uri: str) -> bytes:
        """What is kept under a URI that `put` gave."""
        if not uri.startswith(self._prefix):
            raise Missing(f"{uri} is not in object store {self._bucket}")
        try:
            store = await self._bus.jetstream().object_store(self._bucket)
            found = await store.get(uri.removeprefix(self._prefix))
        except NotFoundError as error:
            raise Missing(f"there is no artifact {uri}") from error
        except (NatsError, TimeoutError) as error:
            raise StoreError(f"{uri} cannot be fetched: {error!r}") from error
        return found.data or b""

    @property
    def _prefix(self) -> str:
        return f"nats://{self._bucket}/"
