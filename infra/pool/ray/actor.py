"""The one actor class: a host, and the calls that reach it. They cross as msgpack: nothing of the bus is unpickled."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import msgspec
from msgspec import Struct

from contracts import codec
from contracts.calls import Call, Frame, decode_call, decode_calls, encode
from contracts.errors import ErrorInfo
from infra.pool import provenance
from infra.pool.actor import no_frames, unfit
from infra.pool.base import ConfigError, Host, HostSpec
from infra.pool.hosting import build_host, is_report, sealed
from infra.pool.mailbox import Mailbox
from infra.pool.ray.line import Number, Switchboard
from infra.pool.resident import resident_bytes
from infra.pool.tenancy import Tenancy

__all__ = ["JobActor", "Whereabouts", "packed_items", "unpacked_items"]


class Whereabouts(Struct, frozen=True):
    """An actor's first word."""

    node: str
    pid: int
    error: ErrorInfo | None
    """Why it can run nothing."""
    line: Number | str
    """Where it takes calls other than Ray's, or why nowhere."""


_items_encoder = msgspec.msgpack.Encoder()
_items_decoder = msgspec.msgpack.Decoder(list[bytes])


def packed_items(items: list[bytes]) -> bytes:
    """Frames, and at the end the outcome, that travel together."""
    return _items_encoder.encode(items)


def unpacked_items(data: bytes) -> list[bytes]:
    """What `packed_items` made `data` of; `codec.Undecodable` where it made none."""
    return codec.decode(_items_decoder, data)


class JobActor:
    """Runs calls in an actor. All its methods share one event loop; none raises for what a job or the host does."""

    def __init__(self, factory: str, config: bytes, version: str, mark: int) -> None:
        self._tenancy = Tenancy(mark)
        self._host: Host | ErrorInfo
        try:
            provenance.check(version)
        except ConfigError as error:
            self._host = unfit("ConfigError", str(error))
        else:
            self._host = build_host(HostSpec(factory=factory, config=config))

    async def ready(self) -> bytes:
        """A `Whereabouts`."""
        import ray  # in an actor it is imported already

        error = self._host if isinstance(self._host, ErrorInfo) else None
        node = ray.get_runtime_context().get_node_id()
        line = "" if error else await self._listen(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]
        return msgspec.msgpack.encode(Whereabouts(node=node, pid=os.getpid(), error=error, line=line))

    async def run(self, data: bytes) -> bytes:
        """A call that sends no frames, to its outcome."""
        return encode(await self._tenancy.execute(self._fit_host, decode_call(data), no_frames))

    async def run_many(self, data: bytes) -> bytes:
        """Calls that send no frames, one after the other, to their outcomes."""
        return encode(await self._tenancy.execute_many(self._fit_host, decode_calls(data)))

    async def stream(self, data: bytes) -> AsyncIterator[bytes]:
        """A call to its frames and, as the very last item, its outcome. Items that wait travel together."""
        mailbox: Mailbox[bytes] = Mailbox()
        job = asyncio.create_task(self._fill(mailbox, decode_call(data)))
        while items := await mailbox.take():
            yield packed_items(items)
        await job

    async def cancel(self, job: bytes) -> bool:
        """Ask a running job to stop; False where it does not run."""
        return self._fit_host.cancel(job.decode())

    async def pulse(self) -> int:
        """Whoever gets this answer knows that the loop runs; it is the resident memory in bytes."""
        return resident_bytes()

    async def alive(self) -> None:
        """Never returns: whoever waits for it learns that the actor has died as soon as Ray knows, and of what."""
        await asyncio.Event().wait()

    async def _listen(self, address: str) -> Number | str:
        if os.environ.get("RAY_USE_TLS", "").lower() in ("1", "true"):
            return "RAY_USE_TLS is set, and a line is not encrypted"
        answering = {name: getattr(self, name) for name in ("run", "run_many", "cancel", "pulse")}
        try:
            return await Switchboard(answering, self.stream).open(address)
        except OSError as error:
            return f"it cannot listen at {address}: {error}"

    @property
    def _fit_host(self) -> Host:
        assert not isinstance(self._host, ErrorInfo), "whoever asked `ready` knows that there is no host"
        return self._host

    async def _fill(self, mailbox: Mailbox[bytes], call: Call) -> None:
        def send(frame: Frame) -> None:
            mailbox.put(sealed(frame), report=is_report(frame))

        try:
            mailbox.put(encode(await self._tenancy.execute(self._fit_host, call, send)), report=False)
        finally:
            mailbox.close()
