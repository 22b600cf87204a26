"""Decoding in a child process, for a message that may have killed a gateway before.

A decoder that dies takes no gateway along: its death is the answer.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final

import anyio
import msgspec
from msgspec import Struct

from contracts import inbound
from contracts.errors import ErrorInfo
from workers.kinds.registry import Kind, KindError, load

__all__ = ["Quarantine"]

PATIENCE_S: Final = 30.0


class _Suspect(Struct, frozen=True, kw_only=True):
    modules: list[str]
    kind: str
    subject: str
    headers: dict[str, str]
    body: bytes
    stream: str
    sequence: int
    limits: inbound.Limits
    foreign: bool


class Quarantine:
    """Tries messages out, one process each, with the kinds of these modules and those that ship."""

    def __init__(self, modules: Sequence[str] = ()) -> None:
        self._modules = list(modules)

    async def try_out(
        self, message: inbound.Message, kind: Kind, limits: inbound.Limits, *, foreign: bool
    ) -> ErrorInfo | None:
        """None where a child process could read the message, whatever it made of it; else why it must be refused."""
        suspect = _Suspect(
            modules=self._modules,
            kind=kind.name,
            subject=message.subject,
            headers=dict(message.headers),
            body=message.body,
            stream=message.stream,
            sequence=message.sequence,
            limits=limits,
            foreign=foreign,
        )
        command = [sys.executable, "-m", "workers.runtime.quarantine"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        code: int | None = None
        with anyio.move_on_after(PATIENCE_S):
            done = await anyio.run_process(
                command, input=msgspec.msgpack.encode(suspect), check=False, stdout=None, env=environment
            )
            code = done.returncode
        if code == 0:
            return None
        died = f"took longer than {PATIENCE_S:.0f} s" if code is None else f"ended with status {code}"
        return ErrorInfo(
            reason="decode", type="DecoderDied", message=f"the process that was to decode the message {died}"
        )


def main() -> None:
    """In the child: read one message; being alive at the end is the answer."""
    suspect = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=_Suspect)
    try:
        kind = load(suspect.modules).get(suspect.kind)
    except KindError as error:
        print(f"messages of kind {suspect.kind} cannot be tried out: {error}", file=sys.stderr)
        return
    if kind is None:
        # Made where no module tells of it, as in a test: nothing speaks against the message.
        return
    message = inbound.Message(
        subject=suspect.subject,
        headers=suspect.headers,
        body=suspect.body,
        stream=suspect.stream,
        sequence=suspect.sequence,
    )
    inbound.read(message, kind.spec, suspect.limits, foreign=suspect.foreign)


if __name__ == "__main__":
    main()
