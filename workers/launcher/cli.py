"""The commands, their options and their help. Each imports what it needs when it runs."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from workers.launcher import exits

if TYPE_CHECKING:
    from workers.settings import Settings

__all__ = ["app"]

Config = Annotated[
    Path | None, Parameter(name="--config", help="Settings file. Unless given, jetray.toml here, where there is one.")
]
Port = Annotated[
    int | None,
    Parameter(help="Port of the nats-server; 0 takes any that is free.", validator=Number(gte=0, lte=65535)),
]


def _version() -> str:
    from infra.pool.provenance import version

    return version()


app = App(
    name="jetray",
    version=_version,
    help_format="markdown",
    help=(
        "Events on a NATS bus become work on a Ray cluster, and work becomes events.\n\n"
        "Start with `jetray demo`. Settings come from jetray.toml (`jetray config --init` writes one) and from the "
        "environment. Exit status: 0 done, 1 failed, 2 wrong usage, 78 wrong configuration."
    ),
)
new = App(name="new", help="Scaffold something of your own.")
app.command(new)


@app.command
def demo(
    *,
    ray: Annotated[bool, Parameter(help="Run jobs on an embedded Ray; without it, in a child process.")] = True,
) -> int:
    """Run one plan through a nats-server and a Ray of its own, show what happens, and stop everything.

    Needs neither settings nor a model, and reads none. Leaves nothing behind.
    """
    import anyio

    from workers.launcher.demo import demo as run

    return anyio.run(lambda: run(with_ray=ray))


@app.command
def up(
    *,
    nats_port: Port = None,
    state_dir: Annotated[
        Path | None, Parameter(help="Where nats-server keeps its streams. Unless given, .jetray here.")
    ] = None,
    config: Config = None,
) -> int:
    """Run nats-server and the gateway, and start again what dies, until SIGTERM or Ctrl-C.

    Prints `ready nats://127.0.0.1:PORT` once the gateway serves; everything else goes to standard error. The server
    listens on loopback alone, on the port that the settings' nats.url names (4222) unless --nats-port says otherwise.
    Where NATS_URL or the settings name a server elsewhere, that one is not touched: `jetray worker` serves it.
    A second signal kills what has not stopped yet.
    """
    import anyio

    from workers.launcher.up import up as run

    settings = _settings(config)
    anyio.run(lambda: run(settings, config=config, nats_port=nats_port, state_dir=state_dir))
    return exits.OK


@app.command
def worker(*, config: Config = None) -> int:
    """Run the gateway alone, on the NATS server and the Ray cluster that the settings name.

    SIGTERM: it pulls no more, running jobs get the grace period, the rest is given back; exit status 0. A second one:
    it leaves at once, and what it had comes back with the end of its lease; exit status 1.
    """
    with _sigterm_exits():
        import anyio

        from workers.launcher.logs import to_stderr
        from workers.launcher.worker import leave_behind, serve

        settings = _settings(config)
        to_stderr()
        anyio.run(serve, settings, backend="asyncio", backend_options={"use_uvloop": _has_uvloop()})
        leave_behind()
    return exits.OK


@contextmanager
def _sigterm_exits() -> Iterator[None]:
    """Until the gateway has ears of its own SIGTERM is an exit as any other: there is nothing to drain yet."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(exits.OK))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


@app.command
def apply(
    *,
    check: Annotated[
        bool,
        Parameter(
            negative=(), show_default=False, help="Only compare: print each difference, and exit 1 if there is any."
        ),
    ] = False,
    config: Config = None,
) -> int:
    """Create or update the streams and consumers that the settings ask for.

    A stream of our name with somebody else's subjects is refused, and nothing is ever deleted.
    """
    import anyio

    from workers.launcher.logs import to_stderr
    from workers.launcher.upkeep import apply as run

    settings = _settings(config)
    # Whether the server can be reached is said once, at the end.
    to_stderr(logging.ERROR)
    changes = anyio.run(lambda: run(settings, only_check=check))
    for line in changes:
        print(line)
    if check:
        print("differs" if changes else "all as wanted", file=sys.stderr)
        return exits.FAILED if changes else exits.OK
    print(f"{len(changes)} changes" if changes else "all was as wanted", file=sys.stderr)
    return exits.OK


@app.command
def asyncapi(*, config: Config = None) -> int:
    """Print the AsyncAPI document: every subject, header and payload of the kinds that the settings name."""
    from workers.launcher.upkeep import document

    print(document(_settings(config), _version()))
    return exits.OK


@app.command(name="config")
def show_config(
    path: Annotated[
        Path | None, Parameter(help="Settings file to read, or with --init to write (jetray.toml).")
    ] = None,
    /,
    *,
    init: Annotated[
        bool, Parameter(negative=(), show_default=False, help="Write an annotated file that sets the defaults.")
    ] = False,
    config: Config = None,
) -> int:
    """Print the effective settings as TOML, secrets masked; or write a file to start from."""
    from workers import settings_file
    from workers.settings import FILE

    file = path or config
    if not init:
        print(settings_file.effective(_settings(file)), end="")
        return exits.OK
    target = file or Path(FILE)
    try:
        with target.open("x", encoding="utf-8") as opened:
            opened.write(settings_file.annotated())
    except FileExistsError as error:
        raise exits.Failure(f"{target} exists, and is left as it is") from error
    except OSError as error:
        raise exits.Failure(f"{target} cannot be written: {error.strerror}") from error
    print(f"wrote {target}", file=sys.stderr)
    return exits.OK


@new.command(name="kind")
def new_kind(name: Annotated[str, Parameter(help="The kind's name, as in jobs.<name>.")], /) -> int:
    """Write a kind of your own and its test into this directory, and say how to run both."""
    from workers.launcher.scaffold import scaffold

    made = scaffold(name, Path.cwd())
    print("\n".join(made.told()))
    return exits.OK


@app.command(name="try")
def try_kind(
    target: Annotated[str, Parameter(help="MODULE:KIND, the module and the kind's name in it.")],
    file: Annotated[str, Parameter(allow_leading_hyphen=True, help="JSON file with the input; - is standard input.")],
    /,
    *,
    config: Config = None,
) -> int:
    """Run a kind once, here, without NATS or Ray.

    What it reports goes to standard error, its result as JSON to standard output. Exit status 1 where it fails.
    """
    from workers.launcher.tryout import tryout

    return tryout(target, file, _settings(config))


def _settings(config: Path | None) -> Settings:
    from workers.settings import load

    return load(config)


def _has_uvloop() -> bool:
    from importlib.util import find_spec

    return find_spec("uvloop") is not None
