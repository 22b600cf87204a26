"""Files in NATS object stores, for the places where jobs run: bytes go there and back without passing a gateway.

Whoever asks waits in a thread; the connection lives in another one, with an event loop of its own, and is made when it
is first needed. So it does not matter on what loop a job runs, or whether that is blocked.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import IO, Any, Final, TypeVar

from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError
from nats.js.object_store import ObjectStore

from infra.bus.base import BusError
from infra.bus.nats import NatsBus, connect
from infra.store.base import Missing, StoreError, Unfit
from infra.store.uris import above, below

__all__ = ["Link", "ObjectFiles"]

STALL_S: Final = 10.0
"""Without another part for so long, a file is not coming: nats-py would wait for ever."""

T = TypeVar("T")


class Link:
    """A connection to NATS for any thread: made when it is first needed, and again after `close`."""

    def __init__(self, url: str, *, credentials: str | None = None, inbox_prefix: str = "_INBOX") -> None:
        self._url = url
        self._credentials = credentials
        self._inbox_prefix = inbox_prefix
        self._starting = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread
        self._connecting: asyncio.Lock
        self._bus: NatsBus | None = None
        self._open = AsyncExitStack()

    def run(self, operation: Callable[[NatsBus], Awaitable[T]]) -> T:
        """What the operation comes to. Raises `StoreError` where NATS does not answer, and what it raises."""
        with self._starting:
            if self._loop is None:
                self._loop = self._start()
            return_ = asyncio.run_coroutine_threadsafe(self._on_bus(operation), self._loop)
        return return_.result()

    def close(self) -> None:
        """Disconnect, and end the thread."""
        with self._starting:
            loop, self._loop = self._loop, None
        if loop is not None:
            asyncio.run_coroutine_threadsafe(self._disconnect(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()

    def _start(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        self._connecting = asyncio.Lock()
        # A daemon: it must not keep a process that is done.
        self._thread = threading.Thread(target=_serve, args=(loop,), name="files on NATS", daemon=True)
        self._thread.start()
        return loop

    async def _on_bus(self, operation: Callable[[NatsBus], Awaitable[T]]) -> T:
        try:
            return await operation(await self._connected())
        except (BusError, NatsError, TimeoutError, OSError) as error:
            raise StoreError(f"NATS does not take or give files just now: {error!r}") from error

    async def _connected(self) -> NatsBus:
        async with self._connecting:
            if self._bus is None:
                opening = connect(
                    self._url,
                    name="jetray files",
                    credentials=self._credentials,
                    inbox_prefix=self._inbox_prefix,
                    wait=False,
                )
                self._bus = await self._open.enter_async_context(opening)
            return self._bus

    async def _disconnect(self) -> None:
        self._bus = None
        await self._open.aclose()
        await asyncio.get_running_loop().shutdown_default_executor()


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.close()


class ObjectFiles:
    """See `infra.store.base.FileStore`. `root` is `nats://<bucket>`, or a prefix in it; the bucket must be there."""

    def __init__(self, root: str, link: Link) -> None:
        self._root = root
        self._bucket = root.removeprefix("nats://").partition("/")[0]
        self._link = link

    def keep(self, name: str, data: IO[bytes]) -> str:
        """Keep all of `data`. Of a put that ends half-way nothing is there."""
        uri = above(self._root, name)
        key = self._key(uri)

        async def put(bus: NatsBus) -> None:
            store = await self._store(bus)
            if not await _is_fresh(store, key):
                data.seek(0)
                await store.put(key, data)  # type: ignore[arg-type]

        self._link.run(put)
        return uri

    def fetch(self, uri: str, into: IO[bytes]) -> None:
        """Write what is kept under a URI."""
        key = self._key(uri)

        async def get(bus: NatsBus) -> None:
            store = await self._store(bus)
            into.seek(0)
            into.truncate()
            try:
                await _unless_stalled(lambda writer: store.get(key, writeinto=writer), into)
            except NotFoundError as error:
                raise Missing(f"there is no file {uri}") from error

        self._link.run(get)

    def _key(self, uri: str) -> str:
        below(uri, self._root)
        return below(uri, f"nats://{self._bucket}")

    async def _store(self, bus: NatsBus) -> ObjectStore:
        try:
            return await bus.jetstream().object_store(self._bucket)
        except NotFoundError as error:
            raise Unfit(f"there is no object store {self._bucket}") from error


async def _is_fresh(store: ObjectStore, key: str) -> bool:
    """Whether it is there, and will be for at least half of the time for which the store keeps things."""
    try:
        info = await store.get_info(key)
        kept_s = (await store.status()).ttl
    except NotFoundError:
        return False
    if not kept_s:
        return True
    try:
        since = datetime.fromisoformat(info.mtime or "")
    except ValueError:  # not written by us
        return False
    return (datetime.now(UTC) - since).total_seconds() < kept_s / 2


class _Writer:
    """Counts what is written, for whoever watches that it goes on."""

    def __init__(self, into: IO[bytes]) -> None:
        self._into = into
        self.written = 0

    def write(self, data: bytes) -> None:
        self._into.write(data)
        self.written += len(data)


async def _unless_stalled(get: Callable[[Any], Awaitable[object]], into: IO[bytes]) -> None:
    writer = _Writer(into)
    getting = asyncio.ensure_future(get(writer))
    seen = -1
    try:
        while not getting.done():
            if writer.written == seen:
                raise TimeoutError(f"it stops after {seen} bytes")
            seen = writer.written
            await asyncio.wait({getting}, timeout=STALL_S)
        await getting
    finally:
        getting.cancel()
