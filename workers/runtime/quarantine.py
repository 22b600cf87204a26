"""Decoding in a child process, for a message that may have killed a gateway before.

A decoder that dies takes no gateway along: its death is the answer. What kills the child from outside (the kernel for
want of memory, an operator, the clock) is none: the message waits and is tried again, so often and not for ever.

One child decodes one message after another, for as long as any waits: after an outage hundreds come for the third time
at once, and a process for each would keep the machine from renewing their leases, so that they came again for ever.
"""

from __future__ import annotations

import signal
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import anyio
from msgspec import Struct

from contracts import inbound
from contracts.errors import ErrorInfo
from workers.kinds.registry import Kind
from workers.runtime.taster import Suspect, Taster

__all__ = ["Quarantine", "Undecided"]

PATIENCE_S: Final = 30.0
TRIES: Final = 5
"""How often a message may be undecided about, by one process, before it is refused."""
DELAY_S: Final = 10.0
"""Before the second try; each further one waits twice as long."""
REMEMBERED: Final = 10_000

_PYTHONS_OWN: Final = (1, 2)
"""Exit statuses of a Python that could not start, or whose imports failed: it did not come to the message."""
_OWN_DEATHS: Final = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)
"""Signals by which a process kills itself. All others come from outside, or may."""


class Undecided(Exception):
    """Nothing is known of the message yet: it is to come again, after `delay_s` at the earliest."""

    def __init__(self, why: str, delay_s: float) -> None:
        super().__init__(why)
        self.delay_s = delay_s


class Quarantine:
    """Tries messages out, one at a time, with the kinds of these modules and those that ship."""

    def __init__(self, modules: Sequence[str] = ()) -> None:
        self._modules = list(modules)
        self._turn = anyio.Lock()
        self._waiting = 0
        self._taster: Taster | None = None
        self._undecided: OrderedDict[tuple[str, int], int] = OrderedDict()

    async def try_out(
        self, message: inbound.Message, kind: Kind, limits: inbound.Limits, *, foreign: bool
    ) -> ErrorInfo | None:
        """None where a child process could read the message, whatever it made of it; else why it must be refused.

        Raises `Undecided` where the child's end says nothing of the message.
        """
        suspect = Suspect(
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
            death = await self._in_turn(suspect)
        except OSError as error:
            # The machine's trouble, and not a try: no process could be started.
            raise Undecided(f"no process could be started to decode it in: {error}", DELAY_S) from error
        key = (message.stream, message.sequence)
        if death is None:
            self._undecided.pop(key, None)
            return None
        tries = self._undecided.pop(key, 0) + 1
        if not death.is_own_doing and tries < TRIES:
            self._remember(key, tries)
            raise Undecided(f"the process that was to decode it {death}", DELAY_S * 2.0 ** (tries - 1))
        often = "" if tries == 1 else f", at try {tries}"
        text = f"the process that was to decode the message {death}{often}"
        return ErrorInfo(reason="decode", type="DecoderDied", message=text)

    async def _in_turn(self, suspect: Suspect) -> _Death | None:
        """None where the child lives. Raises `OSError` where there is none."""
        self._waiting += 1
        try:
            async with self._turn:
                return await self._tasted(suspect)
        finally:
            self._waiting -= 1
            if not self._waiting:
                await self._close()

    async def _tasted(self, suspect: Suspect) -> _Death | None:
        while True:
            taster = self._taster = self._taster or await Taster.start(self._modules)
            death = _Death(None)
            was_fresh, lives = taster.fresh, False
            try:
                with anyio.move_on_after(PATIENCE_S):
                    status = await taster.taste(suspect)
                    death, lives = _Death(status), status is None
            finally:
                # Also where it was cancelled: what comes from it now is no answer to the next one.
                if not lives:
                    await self._close()
            if lives:
                return None
            # Where an earlier message may have broken it: only what a fresh one dies of is to blame.
            if was_fresh or not death.is_own_doing:
                return death

    async def _close(self) -> None:
        taster, self._taster = self._taster, None
        if taster is not None:
            await taster.close()

    def _remember(self, key: tuple[str, int], tries: int) -> None:
        self._undecided[key] = tries
        if len(self._undecided) > REMEMBERED:
            self._undecided.popitem(last=False)


class _Death(Struct, frozen=True):
    """How a child ended."""

    status: int | None
    """None where it took too long."""

    @property
    def is_own_doing(self) -> bool:
        """Whether a decoder died of the message; else perhaps of something else."""
        if self.status is None or self.status in _PYTHONS_OWN:
            return False
        return self.status >= 0 or -self.status in _OWN_DEATHS

    def __str__(self) -> str:
        if self.status is None:
            return f"took longer than {PATIENCE_S:.0f} s"
        return (
            f"was ended by {signal.Signals(-self.status).name}"
            if self.status < 0
            else f"ended with status {self.status}"
        )
