"""The process pool, for `RAY_ADDRESS=none`: no Ray, and for each profile a child process that runs one job at a time.

The child is long-lived, in a session of its own, and replaced when it dies or has to be killed. All that it started
goes with it: its process group at once, and by its birthmark whatever has left that.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import anyio
import anyio.to_thread
from anyio.abc import ByteReceiveStream, Process, UNIXSocketStream
from anyio.streams.buffered import BufferedByteReceiveStream
from msgspec.structs import replace

from contracts.calls import Call, Frame, Outcome, Ran, decode_reply, encode
from contracts.errors import ErrorInfo
from infra.pool import birthmark, provenance
from infra.pool.actor import ActorLost, lost, no_frames
from infra.pool.base import HostSpec, Profile
from infra.pool.crewed import CrewedPool
from infra.pool.hosting import one_by_one, unsealed
from infra.pool.mailbox import Mailbox
from infra.pool.wire import (
    LENGTH,
    Begin,
    Cancel,
    Down,
    Ended,
    Hello,
    Ping,
    Pong,
    Ready,
    Refused,
    Said,
    Up,
    decode_up,
    packed,
)

__all__ = ["ProcessPool"]

_log = logging.getLogger("jetray.pool")

BEAT_S = 2.0
"""Between two heartbeats of a child."""
GONE_S = 10.0
"""How long what a killed child left behind may take to die before we say so and go on."""


class ProcessPool(CrewedPool):
    """Runs jobs in child processes: one actor a profile, whatever its size and concurrency, and one job at a time."""

    def __init__(self, profiles: Iterable[Profile], host: HostSpec, *, gateway: str) -> None:
        single = [replace(profile, actors=1, min_actors=None) for profile in profiles]
        for profile in single:
            if profile.runtime_env:
                _log.warning("profile %s: without Ray its runtime_env has no effect", profile.name)
        super().__init__(single, _ChildSpawner(host), gateway=gateway)


class _ChildSpawner:
    beat_s = BEAT_S

    def __init__(self, host: HostSpec) -> None:
        self._host = host

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        yield

    def spawn(self, profile: Profile, name: str) -> _Child:
        return _Child(name, self._host)

    def concurrency(self, profile: Profile) -> int:
        return 1


class _Child:
    def __init__(self, name: str, host: HostSpec) -> None:
        self._name = name
        self._host = host
        self._mark = birthmark.fresh()
        self._process: Process | None = None
        self._stream: UNIXSocketStream | None = None
        self._reader: BufferedByteReceiveStream
        self._writing = anyio.Lock()
        self._fault: ErrorInfo | None = None
        """Why nothing more is heard of it."""
        self._replies: Mailbox[Said | Ended] = Mailbox()
        self._pongs: Mailbox[Pong] = Mailbox()

    async def ready(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._stream = await UNIXSocketStream.from_socket(ours)
            self._reader = BufferedByteReceiveStream(_Readable(ours))
            self._process = await anyio.open_process(
                [sys.executable, "-P", "-m", "infra.pool.child", str(theirs.fileno()), self._name],
                stdin=subprocess.DEVNULL,
                stdout=None,
                stderr=None,
                env={**os.environ, "PYTHONPATH": _python_path()},
                start_new_session=True,
                pass_fds=(theirs.fileno(),),
            )
        await self._send(self._hello())
        match await self._receive():
            case Refused(error):
                raise ActorLost(error)
            case Ready():
                return
            case other:
                raise ActorLost(lost("ProtocolError", f"{self._name} began with {other!r}"))

    async def run(self, call: Call, send: Callable[[Frame], None]) -> Outcome:
        await self._send(Begin(encode(call)))
        while isinstance(message := await self._replies.next(), Said):
            send(unsealed(message.frame))
        if message is None:
            raise ActorLost(await self._end())
        outcome = decode_reply(message.outcome)
        if isinstance(outcome, Frame):
            raise ActorLost(lost("ProtocolError", f"{self._name} answered {call.job} with {message!r}"))
        return outcome

    async def run_many(self, calls: Sequence[Call]) -> Ran:
        return await one_by_one(calls, lambda call: self.run(call, no_frames))

    async def cancel(self, job: str) -> bool:
        """The child sees to it that the job hears of it."""
        await self._send(Cancel(job))
        return True

    async def pulse(self) -> int:
        """The child's loop answers."""
        await self._send(Ping())
        pong = await self._pongs.next()
        if pong is None:
            raise ActorLost(await self._end())
        return pong.resident

    async def died(self) -> ErrorInfo:
        """Reads what it says for as long as it lives: runs and heartbeats wait for what comes of that."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._read, tasks.cancel_scope)
            self._fault = await self._end()
            tasks.cancel_scope.cancel()
        assert self._fault is not None
        return self._fault

    async def _end(self) -> ErrorInfo:
        """Wait for its end, unless it can no longer be understood."""
        if self._fault is not None:
            return self._fault
        assert self._process is not None
        status = await self._process.wait()
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        return lost("ActorDiedError", f"the process of {self._name} {how}")

    async def kill(self) -> None:
        if self._process is not None:
            _kill_group(self._process.pid)
            await self._process.wait()
            await self._process.aclose()
            await self._see_descendants_gone()
        if self._stream is not None:
            await self._stream.aclose()

    async def _see_descendants_gone(self) -> None:
        """The guardian is at it already, but does not say when it is done."""
        if birthmark.supported():
            _, left = await anyio.to_thread.run_sync(partial(birthmark.end, self._mark, within_s=GONE_S))
            if left:
                _log.error("%s left %d processes that cannot be killed", self._name, left)

    def _hello(self) -> Hello:
        return Hello(
            factory=self._host.factory,
            config=self._host.config,
            path=sys.path,
            python_path=os.environ.get("PYTHONPATH"),
            mark=self._mark.number,
        )

    async def _send(self, message: Down) -> None:
        assert self._stream is not None
        try:
            async with self._writing:
                await self._stream.send(packed(message))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise ActorLost(await self._end()) from error

    async def _read(self, scope: anyio.CancelScope) -> None:
        try:
            while True:
                match await self._receive():
                    case Said() | Ended() as reply:
                        self._replies.put(reply, report=False)
                    case Pong() as pong:
                        self._pongs.put(pong, report=False)
                    case other:
                        raise ActorLost(lost("ProtocolError", f"{self._name} said {other!r} out of turn"))
        except ActorLost as gone:
            self._fault = gone.error
            scope.cancel()
        finally:
            self._replies.close()
            self._pongs.close()

    async def _receive(self) -> Up:
        try:
            head = await self._reader.receive_exactly(LENGTH.size)
            return decode_up(await self._reader.receive_exactly(LENGTH.unpack(head)[0]))
        except (anyio.IncompleteRead, anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise ActorLost(await self._end()) from error


class _Readable(ByteReceiveStream):
    """What a socket says. anyio's own stream loses its temper where it is cancelled just as something arrives."""

    def __init__(self, raw: socket.socket) -> None:
        self._raw = raw

    async def receive(self, max_bytes: int = 65536) -> bytes:
        await anyio.wait_readable(self._raw)
        try:
            data = self._raw.recv(max_bytes)
        except OSError as error:
            raise anyio.BrokenResourceError from error
        if not data:
            raise anyio.EndOfStream
        return data

    async def aclose(self) -> None:
        """The socket is closed by whoever writes to it."""


def _python_path() -> str:
    """So that the child finds our packages; it puts everything right as soon as it has been told the rest."""
    return os.pathsep.join(filter(None, [str(provenance.ROOT), os.environ.get("PYTHONPATH")]))


def _kill_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:  # it is gone, and so is its group
        return
