"""Builds the host where jobs run: the one place there that knows kinds as well as stores.

Kinds may not import stores, and stores know nothing of jobs. Whoever starts a process for jobs names `build` as its
factory, and gives it a `HostConfig`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import IO, Final, TypeVar

import msgspec
from msgspec import Raw, Struct

from infra.store.base import FileStore, Missing, StoreError, Unfit
from infra.store.files import FileStores, NatsAccess
from infra.store.uris import below
from workers.kinds.context import Places
from workers.kinds.host import KindHost
from workers.kinds.outcomes import Fail
from workers.kinds.premises import Premises
from workers.kinds.registry import load
from workers.kinds.storage import StorageError
from workers.kinds.workspaces import Workspaces

__all__ = ["Depot", "HostConfig", "StorageConfig", "WorkspacesConfig", "build", "places"]

PATIENCE_S: Final = 10.0
"""For how long a store that does not answer is asked again."""
FIRST_WAIT_S: Final = 0.1

T = TypeVar("T")


class StorageConfig(Struct, frozen=True, kw_only=True):
    """Where files are kept, and may be staged from."""

    root: str
    inputs: list[str] = []
    """URIs below which inputs may be, beside the root."""
    nats: NatsAccess | None = None


class WorkspacesConfig(Struct, frozen=True, kw_only=True):
    """Where attempts have their directories."""

    base: str = ""
    keep_failed: bool = False


class HostConfig(Struct, frozen=True, kw_only=True):
    """What a host must know: modules of kinds, the settings of each kind that has some, and where files are."""

    modules: list[str] = []
    kinds: dict[str, Raw] = {}
    storage: StorageConfig | None = None
    workspaces: WorkspacesConfig = WorkspacesConfig()


def build(config: bytes) -> KindHost:
    """The host for `config`, a `HostConfig` as JSON, in a process of its own. Raises `KindError`."""
    settings = msgspec.json.decode(config, type=HostConfig)
    found = places(settings.storage, settings.workspaces)
    return KindHost(load(settings.modules), settings.kinds, found, Premises())


def places(storage: StorageConfig | None, workspaces: WorkspacesConfig) -> Places:
    """Where files of jobs are. Nothing is connected or made before a job asks."""
    made = Workspaces(workspaces.base, keep_failed=workspaces.keep_failed)
    if storage is None:
        return Places(workspaces=made)
    return Places(workspaces=made, storage=Depot(storage.root, storage.inputs, FileStores(storage.nats).open))


class Depot:
    """See `workers.kinds.storage.Storage`: the store of the root, and those of what else may be staged."""

    def __init__(
        self, root: str, inputs: list[str], open_store: Callable[[str], FileStore], *, patience_s: float = PATIENCE_S
    ) -> None:
        self._root = root
        self._allowed = [root, *(prefix for prefix in inputs if prefix != root)]
        self._open = open_store
        self._patience_s = patience_s
        self._opening = threading.Lock()
        self._stores: dict[str, FileStore] = {}

    def keep(self, name: str, data: IO[bytes]) -> str:
        """Keep all that `data` holds below the root."""
        return self._patiently(lambda: self._store(self._root).keep(name, data))

    def fetch(self, uri: str, into: IO[bytes]) -> None:
        """Write what is kept under an allowed URI."""
        prefix = self._prefix(uri)
        self._patiently(lambda: self._store(prefix).fetch(uri, into))

    def _prefix(self, uri: str) -> str:
        refusals = []
        for prefix in self._allowed:
            try:
                below(uri, prefix)
                return prefix
            except Missing as error:
                refusals.append(str(error))
        raise Fail(f"it may not be staged: {refusals[0]} (see setting workspaces.inputs)", reason="config")

    def _store(self, prefix: str) -> FileStore:
        with self._opening:
            if prefix not in self._stores:
                self._stores[prefix] = self._open(prefix)
            return self._stores[prefix]

    def _patiently(self, operation: Callable[[], T]) -> T:
        """What the operation comes to. What a store cannot do just now it is asked again, for a while."""
        ends, wait = time.monotonic() + self._patience_s, FIRST_WAIT_S
        while True:
            try:
                return operation()
            except Missing as error:
                raise Fail(str(error), reason="storage") from error
            except Unfit as error:
                raise Fail(str(error), reason="config") from error
            except StoreError as error:
                if time.monotonic() + wait > ends:
                    raise StorageError(str(error)) from error
            time.sleep(wait)
            wait *= 2
