"""Files in whatever fsspec knows: `s3://…`, with the package s3fs."""

from __future__ import annotations

import shutil
import threading
from typing import IO, Any

from infra.store.base import Missing, StoreError, Unfit
from infra.store.uris import above, below, scheme

__all__ = ["RemoteFiles"]


class RemoteFiles:
    """See `infra.store.base.FileStore`. Keys and endpoint are those that fsspec finds where jobs run, or `options`."""

    def __init__(self, root: str, **options: Any) -> None:
        self._root = root
        self._options = options
        self._making = threading.Lock()
        self._found: Any = None

    def keep(self, name: str, data: IO[bytes]) -> str:
        """Keep all of `data`. Of an upload that ends half-way nothing is there."""
        uri = above(self._root, name)
        below(uri, self._root)
        system = self._system()
        try:
            if not system.exists(uri):
                data.seek(0)
                _upload(system, uri, data)
        except Exception as error:
            raise StoreError(f"{name} cannot be kept: {error!r}") from error
        return uri

    def fetch(self, uri: str, into: IO[bytes]) -> None:
        """Write what is kept under a URI."""
        below(uri, self._root)
        system = self._system()
        into.seek(0)
        into.truncate()
        try:
            with system.open(uri, "rb") as source:
                shutil.copyfileobj(source, into)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise Missing(f"there is no file {uri}") from error
        except Exception as error:
            raise StoreError(f"{uri} cannot be read: {error!r}") from error

    def _system(self) -> Any:
        with self._making:
            if self._found is None:
                self._found = _file_system(scheme(self._root), self._options)
            return self._found


def _file_system(name: str, options: dict[str, Any]) -> Any:
    import fsspec

    try:
        return fsspec.filesystem(name, **options)
    except (ImportError, ValueError) as error:
        package = "s3fs" if name == "s3" else f"that gives fsspec {name}://"
        raise Unfit(f"{name}:// needs the package {package} wherever jobs run: {error}") from error


def _upload(system: Any, uri: str, data: IO[bytes]) -> None:
    # Else whatever closes the file, an exception too, would complete the upload of a part.
    file = system.open(uri, "wb", autocommit=False)
    try:
        shutil.copyfileobj(data, file)
        file.close()
    except BaseException:
        file.discard()
        raise
    file.commit()
