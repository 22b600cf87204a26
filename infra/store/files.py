"""The store for a URI. Nothing is imported, connected or made before one is asked for."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from msgspec import Struct

from infra.store.base import FileStore, Unfit
from infra.store.uris import SCHEMES, scheme

if TYPE_CHECKING:
    from infra.store.edge import Link

__all__ = ["FileStores", "NatsAccess"]


class NatsAccess(Struct, frozen=True, kw_only=True):
    """How files reach NATS."""

    url: str
    credentials: str | None = None
    """Path of a file that is there wherever jobs run."""
    inbox_prefix: str = "_INBOX"


class FileStores:
    """Opens stores. Those of NATS share one connection."""

    def __init__(self, nats: NatsAccess | None = None) -> None:
        self._nats = nats
        self._linking = threading.Lock()
        self._link: Link | None = None

    def open(self, root: str) -> FileStore:
        """The store for what is below a URI. Raises `Unfit`."""
        match scheme(root):
            case "nats" if self._nats is not None:
                from infra.store.edge import ObjectFiles

                return ObjectFiles(root, self._linked(self._nats))
            case "file":
                from infra.store.folder import FolderFiles

                return FolderFiles(root)
            case "s3":
                from infra.store.remote import RemoteFiles

                return RemoteFiles(root)
        raise Unfit(f"{root} is no place for files here: {', '.join(f'{name}://' for name in SCHEMES)} are")

    def _linked(self, nats: NatsAccess) -> Link:
        from infra.store.edge import Link

        with self._linking:
            if self._link is None:
                self._link = Link(nats.url, credentials=nats.credentials, inbox_prefix=nats.inbox_prefix)
            return self._link
