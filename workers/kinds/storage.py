"""What jobs need of wherever files are kept. Who runs them gives it to the host: kinds know no store."""

from __future__ import annotations

from typing import IO, Protocol

from workers.kinds.outcomes import Fail

__all__ = ["NoStorage", "Storage", "StorageError"]


class StorageError(Exception):
    """What keeps files did not take or give one, though it should. Another attempt may fare better."""


class Storage(Protocol):
    """Where files are kept, and may be staged from. Its methods block, and may be called in any thread.

    They raise `StorageError`, and `Fail` where another attempt could not help: reason `config` or `storage`.
    """

    def keep(self, name: str, data: IO[bytes]) -> str:
        """Keep all that `data` holds under a name below the storage root, unless that is kept already; its URI.

        What is there under a name is whole.
        """
        ...

    def fetch(self, uri: str, into: IO[bytes]) -> None:
        """Write what is kept under a URI into a file that is empty."""
        ...


class NoStorage:
    """For hosts that were given none."""

    def keep(self, name: str, data: IO[bytes]) -> str:
        """See `Storage.keep`."""
        raise Fail("there is no storage root where this job runs", reason="config")

    def fetch(self, uri: str, into: IO[bytes]) -> None:
        """See `Storage.fetch`."""
        raise Fail("there is no storage root where this job runs", reason="config")
