"""Kinds whose inputs kill the process that decodes them, or keep it for ever. For tests of the quarantine alone."""

from __future__ import annotations

import os
import signal
import sys
import time

from msgspec import Struct

from workers import job


class Deadly(Struct):
    """Does what it says when it is decoded."""

    text: str

    def __post_init__(self) -> None:
        if self.text == "die":
            os._exit(3)
        if self.text == "vanish":
            os._exit(0)
        if self.text == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.text == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.text == "stopped":
            os.kill(os.getpid(), signal.SIGTERM)
        if self.text == "leaves":
            sys.exit(0)
        if self.text == "hang":
            time.sleep(3_600)
        if self.text == "raise":
            raise ValueError("not this one")


async def _run(task: Deadly) -> str:
    return task.text


deadly = job("deadly")(_run)
