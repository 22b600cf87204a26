"""A child process that decodes what may be deadly, one message at a time, so that its death can be blamed on one.

`python -m workers.runtime.taster FD` is the child: it talks over the socket FD alone, so a decoder may print what it
likes. It loads the kinds once, which takes half a second, and ends with its gateway.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

import anyio
import msgspec
from anyio.abc import Process, UNIXSocketStream
from anyio.streams.buffered import BufferedByteReceiveStream
from msgspec import Struct

from contracts import inbound
from infra.bus.embedded import die_with_parent
from workers.kinds.registry import Kind, KindError, load

__all__ = ["Suspect", "Taster"]

READ: Final = b"\0"
"""The child's answer: it lives."""
DIED: Final = 70
"""Exit status of the child: the decoder raised what no decoder may."""
LENGTH: Final = struct.Struct("!I")


class Suspect(Struct, frozen=True, kw_only=True):
    """A message, and what it is to be decoded as."""

    kind: str
    subject: str
    headers: dict[str, str]
    body: bytes
    stream: str
    sequence: int
    limits: inbound.Limits
    foreign: bool


class Taster:
    """The gateway's end of one child. Call `close` in the end, whatever happened."""

    def __init__(self, process: Process, stream: UNIXSocketStream) -> None:
        self.fresh = True
        """Whether it has decoded nothing yet."""
        self._process = process
        self._stream = stream
        self._reader = BufferedByteReceiveStream(stream)

    @classmethod
    async def start(cls, modules: Sequence[str]) -> Taster:
        """A child that knows the kinds of these modules. Raises `OSError` where none can be started."""
        ours, theirs = socket.socketpair()
        stream = await UNIXSocketStream.from_socket(ours)
        try:
            with theirs:
                process = await anyio.open_process(
                    [sys.executable, "-m", "workers.runtime.taster", str(theirs.fileno()), *modules],
                    stdin=subprocess.DEVNULL,
                    stdout=None,
                    stderr=None,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                    pass_fds=(theirs.fileno(),),
                    # Ctrl-C in a terminal goes to the whole group.
                    start_new_session=True,
                )
        except BaseException:
            await anyio.aclose_forcefully(stream)
            raise
        return cls(process, stream)

    async def taste(self, suspect: Suspect) -> int | None:
        """None where the child could read the message, whatever it made of it; else how it ended. Never twice then."""
        data = msgspec.msgpack.encode(suspect)
        try:
            await self._stream.send(LENGTH.pack(len(data)) + data)
            await self._reader.receive_exactly(len(READ))
        except (anyio.BrokenResourceError, anyio.EndOfStream, anyio.IncompleteRead):
            return await self._process.wait()
        self.fresh = False
        return None

    async def close(self) -> None:
        """End it, and see it gone."""
        with anyio.CancelScope(shield=True):
            await anyio.aclose_forcefully(self._stream)
            if self._process.returncode is None:
                self._process.kill()
            await self._process.wait()
            await self._process.aclose()


def main(descriptor: int, modules: list[str]) -> int:
    """In the child: being alive after a message is the answer."""
    die_with_parent()
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    os.set_inheritable(descriptor, False)
    channel = socket.socket(fileno=descriptor)
    kinds = _load(modules)
    with channel.makefile("rb") as incoming:
        while len(head := incoming.read(LENGTH.size)) == LENGTH.size:
            suspect = msgspec.msgpack.decode(incoming.read(LENGTH.unpack(head)[0]), type=Suspect)
            # Of a kind that no module tells of, as in a test, nothing is known: nothing speaks against the message.
            kind = kinds.get(suspect.kind)
            if kind is not None and not _survives(suspect, kind):
                return DIED
            channel.sendall(READ)
    return 0


def _load(modules: list[str]) -> dict[str, Kind]:
    try:
        return load(modules)
    except KindError as error:
        print(f"messages cannot be tried out: {error}", file=sys.stderr)
        return {}


def _survives(suspect: Suspect, kind: Kind) -> bool:
    message = inbound.Message(
        subject=suspect.subject,
        headers=suspect.headers,
        body=suspect.body,
        stream=suspect.stream,
        sequence=suspect.sequence,
    )
    try:
        inbound.read(message, kind.spec, suspect.limits, foreign=suspect.foreign)
    except BaseException as error:  # noqa: BLE001  SystemExit above all: in the gateway it would have ended that
        print(f"a decoder raised {error!r}", file=sys.stderr)
        return False
    return True


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
