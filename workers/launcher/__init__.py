"""The command `jetray`, also `python -m workers`.

General layout:

    cli         the commands, their options and their help
    exits       which error becomes which exit status, in one line
    worker      the gateway alone: `jetray worker`
    up          nats-server and the gateway, kept alive: `jetray up`
    demo        one plan through a stack of its own: `jetray demo`; demo_view shows it
    stack       nats-server and the gateway as services, started and stopped in order
    supervise   keeps a service alive
    upkeep      `jetray apply` and `jetray asyncapi`
    scaffold    `jetray new kind`
    tryout      `jetray try`

Commands import what they need when they run: `jetray --help` needs neither Ray nor NATS, and `jetray demo` starts its
children before it imports anything that takes time.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments` (the process's own unless given) and return its exit status."""
    # As `python -m` does: modules of kinds that stand in this directory can be imported, here and in actors alike.
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    from workers.launcher import exits  # noqa: PLC0415 - what is below it may need the path above
    from workers.launcher.cli import app  # noqa: PLC0415

    try:
        return app(sys.argv[1:] if arguments is None else arguments, result_action="return_value") or exits.OK
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except Exception as error:
        ending = exits.of(error)
        if ending is None:
            raise
        print(f"jetray: {ending.line}", file=sys.stderr)
        return ending.status
