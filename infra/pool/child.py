"""The child process of the process pool: `python -P -m infra.pool.child FD`. One host, one job at a time.

It talks over the socket FD alone. Standard output goes where standard error goes, so a job may print what it likes.
When the gateway is gone, so is the child: a thread of its own watches for that, because a job may block every other
one. Its guardian sees to what it started, and to the child itself should a job keep that thread from running, too.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading

from contracts.calls import Frame, decode_call, encode
from contracts.errors import ErrorInfo
from infra.pool import provenance
from infra.pool.actor import unfit
from infra.pool.base import ConfigError, Host, HostSpec
from infra.pool.hosting import build_host, sealed
from infra.pool.resident import resident_bytes
from infra.pool.tenancy import Tenancy
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
    decode_down,
    packed,
)

__all__ = ["main"]

ASK_AGAIN_S = 0.01

Work = Begin | Cancel | Ping


def main(descriptor: int) -> None:
    """Greet, build the host, and run calls until the gateway hangs up."""
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    os.set_inheritable(descriptor, False)
    channel = socket.socket(fileno=descriptor)
    hello = _receive(channel)
    assert isinstance(hello, Hello)
    _settle_in(hello)
    tenancy = Tenancy(hello.mark)
    inbox: asyncio.Queue[Work] = asyncio.Queue()
    loop = asyncio.new_event_loop()
    threading.Thread(target=_listen, args=(channel, loop, inbox), name="gateway", daemon=True).start()
    host = _host(hello)
    if isinstance(host, ErrorInfo):
        channel.sendall(packed(Refused(host)))
        return
    channel.sendall(packed(Ready()))
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(_Worker(host, tenancy, channel, inbox).work())


def _settle_in(hello: Hello) -> None:
    sys.path[:] = hello.path
    if hello.python_path is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = hello.python_path


def _host(hello: Hello) -> Host | ErrorInfo:
    try:
        provenance.check()
    except ConfigError as error:
        return unfit("ConfigError", str(error))
    return build_host(HostSpec(factory=hello.factory, config=hello.config))


def _listen(channel: socket.socket, loop: asyncio.AbstractEventLoop, inbox: asyncio.Queue[Work]) -> None:
    while (message := _receive(channel)) is not None:
        assert not isinstance(message, Hello)
        loop.call_soon_threadsafe(inbox.put_nowait, message)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _receive(channel: socket.socket) -> Down | None:
    head = _exactly(channel, LENGTH.size)
    body = None if head is None else _exactly(channel, LENGTH.unpack(head)[0])
    return None if body is None else decode_down(body)


def _exactly(channel: socket.socket, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        try:
            chunk = channel.recv(size - len(data))
        except ConnectionResetError:
            return None
        if not chunk:
            return None
        data += chunk
    return bytes(data)


class _Worker:
    """Runs calls as they come; asks a running one to stop."""

    def __init__(self, host: Host, tenancy: Tenancy, channel: socket.socket, inbox: asyncio.Queue[Work]) -> None:
        self._host = host
        self._tenancy = tenancy
        self._channel = channel
        self._inbox = inbox
        self._running: asyncio.Task[None] | None = None
        self._asking: set[asyncio.Task[None]] = set()

    async def work(self) -> None:
        while True:
            match await self._inbox.get():
                case Begin(call):
                    self._running = asyncio.create_task(self._run(call))
                case Cancel(job):
                    # Beside the next message: a job that has not begun yet cannot be asked, and hears of it later.
                    self._asking.add(asking := asyncio.create_task(self._cancel(job)))
                    asking.add_done_callback(self._asking.discard)
                case Ping():
                    self._channel.sendall(packed(Pong(resident_bytes())))

    async def _run(self, call: bytes) -> None:
        outcome = await self._tenancy.execute(self._host, decode_call(call), self._say)
        self._channel.sendall(packed(Ended(encode(outcome))))

    async def _cancel(self, job: str) -> None:
        """The task may not have begun yet."""
        running = self._running
        while running is not None and not running.done() and not self._host.cancel(job):  # noqa: ASYNC110 - as in RunningCall
            await asyncio.sleep(ASK_AGAIN_S)

    def _say(self, frame: Frame) -> None:
        self._channel.sendall(packed(Said(sealed(frame))))


if __name__ == "__main__":
    main(int(sys.argv[1]))
