"""A small process beside each actor's: when that ends, or what it depends on, it ends all that the actor started.

It survives what kills the actor: it is nobody's child, in a session of its own, and without the actor's mark. It ends
by itself once nothing carries that mark any more.
"""

from __future__ import annotations

import logging
import os
import select
import sys
from pathlib import Path
from typing import Final

from infra.pool import birthmark
from infra.pool.birthmark import Birthmark

__all__ = ["main", "start"]

_log = logging.getLogger("jetray.pool")

PATIENCE_S: Final = 60.0
"""How long it goes on killing what does not die."""

_PROGRAM: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); from infra.pool.guardian import main; main(sys.argv[2:])"
)


def start(mark: Birthmark) -> bool:
    """Set one beside this process, and mark this process; False, with a word in the log, where the system has no means.

    To be called before anything of the user's runs here. It watches this process and its parent, be that the raylet or
    the gateway: a job that holds Python's lock keeps this process from seeing for itself that its gateway has died.
    """
    if not birthmark.supported():
        _log.warning(
            "on this system (%s) a job's background processes are not found: they may outlive it", sys.platform
        )
        return False
    import subprocess

    root = str(Path(__file__).resolve().parents[2])
    watched = [str(os.getpid()), str(os.getppid())]
    subprocess.run(
        [sys.executable, "-I", "-S", "-c", _PROGRAM, root, str(mark.number), *watched],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    if not mark.wear():
        _log.warning(
            "the limit RLIMIT_LOCKS cannot be set here: of a job's background processes only those are found "
            "that keep %s in their environment",
            birthmark.VARIABLE,
        )
    return True


def main(arguments: list[str]) -> None:
    """Be the guardian. Returns, in a process that is about to end, as soon as the guardian watches."""
    mark, *watched = map(int, arguments)
    poll = select.poll()
    for pid in filter(None, watched):  # a parent in another namespace is 0
        # The handles hold on to these very processes, whoever gets their numbers later.
        poll.register(os.pidfd_open(pid), select.POLLIN)
    if os.fork():
        return
    os.setsid()
    os.chdir("/")
    poll.poll()
    _, left = birthmark.end(Birthmark(mark), within_s=PATIENCE_S)
    if left:
        print(f"jetray: {left} processes of the actor with pid {watched[0]} cannot be killed", file=sys.stderr)
