"""Decoding in a child process, for a message that may have killed a gateway before.

A decoder that dies takes no gateway along: its death is the answer. What kills the child from outside (the kernel for
want of memory, an operator, the clock) is none: the message waits and is tried again, so often and not for ever.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import anyio
import msgspec
from msgspec import Struct

from contracts import inbound
from contracts.errors import ErrorInfo
from infra.bus.embedded import die_with_parent
from workers.kinds.registry import Kind, KindError, load

__all__ = ["Quarantine", "Undecided"]

PATIENCE_S: Final = 30.0
TRIES: Final = 5
"""How often a message may be undecided about, by one process, before it is refused."""
DELAY_S: Final = 10.0
"""Before the second try; each further one waits twice as long."""
REMEMBERED: Final = 10_000

READ: Final = 0
DIED: Final = 70
"""Exit status of the child: the decoder raised what no decoder may."""
_PYTHONS_OWN: Final = (1, 2)
"""Exit statuses of a Python that could not start, or whose imports failed: it did not come to the message."""
_OWN_DEATHS: Final = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)
"""Signals by which a process kills itself. All others come from outside, or may."""


class Undecided(Exception):
    """Nothing is known of the message yet: it is to come again, after `delay_s` at the earliest."""

    def __init__(self, why: str, delay_s: float) -> None:
        super().__init__(why)
        self.delay_s = delay_s


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
        self._undecided: OrderedDict[tuple[str, int], int] = OrderedDict()

    async def try_out(
        self, message: inbound.Message, kind: Kind, limits: inbound.Limits, *, foreign: bool
    ) -> ErrorInfo | None:
        """None where a child process could read the message, whatever it made of it; else why it must be refused.

        Raises `Undecided` where the child's end says nothing of the message.
        """
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
        try:
            code = await _status(suspect)
        except OSError as error:
            # The machine's trouble, and not a try: no process could be started.
            raise Undecided(f"no process could be started to decode it in: {error}", DELAY_S) from error
        key = (message.stream, message.sequence)
        if code == READ:
            self._undecided.pop(key, None)
            return None
        tries = self._undecided.pop(key, 0) + 1
        if not _is_own_doing(code) and tries < TRIES:
            self._remember(key, tries)
            raise Undecided(f"the process that was to decode it {_how(code)}", DELAY_S * 2.0 ** (tries - 1))
        often = "" if tries == 1 else f", at try {tries}"
        text = f"the process that was to decode the message {_how(code)}{often}"
        return ErrorInfo(reason="decode", type="DecoderDied", message=text)

    def _remember(self, key: tuple[str, int], tries: int) -> None:
        self._undecided[key] = tries
        if len(self._undecided) > REMEMBERED:
            self._undecided.popitem(last=False)


async def _status(suspect: _Suspect) -> int | None:
    """How the child ended; None where it took too long. Raises `OSError` where it could not be started."""
    command = [sys.executable, "-m", "workers.runtime.quarantine"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    # A file and no pipe: a child that dies before it reads breaks nothing here.
    with tempfile.TemporaryFile() as told, anyio.move_on_after(PATIENCE_S):
        told.write(msgspec.msgpack.encode(suspect))
        told.seek(0)
        done = await anyio.run_process(
            command,
            stdin=told,
            check=False,
            stdout=None,
            stderr=None,
            env=environment,
            # Ctrl-C in a terminal goes to the whole group.
            start_new_session=True,
        )
        return done.returncode
    return None


def _is_own_doing(code: int | None) -> bool:
    """Whether a decoder died of the message; else perhaps of something else."""
    if code is None or code in _PYTHONS_OWN:
        return False
    return code > 0 or -code in _OWN_DEATHS


def _how(code: int | None) -> str:
    if code is None:
        return f"took longer than {PATIENCE_S:.0f} s"
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"


def main() -> int:
    """In the child: read one message; being alive at the end is the answer."""
    die_with_parent()
    suspect = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=_Suspect)
    try:
        kind = load(suspect.modules).get(suspect.kind)
    except KindError as error:
        print(f"messages of kind {suspect.kind} cannot be tried out: {error}", file=sys.stderr)
        return READ
    if kind is None:
        # Made where no module tells of it, as in a test: nothing speaks against the message.
        return READ
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
        return DIED
    return READ


if __name__ == "__main__":
    sys.exit(main())
