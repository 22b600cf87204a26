"""docs/first-job.md, followed by the letter: every block on the page is run."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from contracts import events
from contracts.catalogue import KindInfo
from contracts.events import Completed
from contracts.fleet import GatewayStatus
from infra.bus.nats import NatsBus, connect
from tests.launcher import processes
from tests.launcher.processes import ROOT, environment
from workers.settings import load

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "first-job.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The page's code in one language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def commands() -> list[list[str]]:
    """The page's blocks of commands, line by line."""
    prose = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
    found = re.findall(r"(?:^    \S.*\n)+", prose, re.MULTILINE)
    return [[line.strip() for line in block.splitlines()] for block in found]


# A block more on the page is a block that no test here runs.
KIND, IN_A_STACK = blocks("python")
KINDS, ROUTES = blocks("toml")
[MAKE], [TEST, TRY], [UP], [LISTEN, SEND], [SHOW_KIND, SHOW_GATEWAY] = commands()
RESULT = {"longest": "have", "letters": 9}
NEEDS_CLI = pytest.mark.skipif(shutil.which("nats") is None, reason="needs the nats CLI on PATH")


def shell(command: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command as the page has it, with `jetray` and `python` on the path."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment(PATH=path, **variables),
        capture_output=True,
        text=True,
        timeout=processes.PATIENCE_S,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory of one's own, where the first command was run."""
    made = shell(MAKE, tmp_path)
    assert made.returncode == 0, made.stderr
    told = [line.strip() for line in made.stdout.splitlines() if line.startswith("  ")]
    assert told == [TEST, TRY, *KINDS.splitlines()]
    return tmp_path


@asynccontextmanager
async def served(folder: Path, **variables: str) -> AsyncIterator[tuple[str, NatsBus]]:
    """The third command, on a port of its own; the server's URL, and a client."""
    (folder / "jetray.toml").write_text(KINDS)
    program, *arguments = shlex.split(UP)
    assert program == "jetray"
    async with processes.started(*arguments, "--nats-port", "0", cwd=folder, **variables) as running:
        ready = await running.says("ready ")
        assert re.sub(r":\d+$", ":4222", ready) in PAGE
        url = ready.removeprefix("ready ")
        async with connect(url, name="test", wait=False) as bus:
            yield url, bus
        assert await running.stop() == 0


@asynccontextmanager
async def listening(command: str, url: str) -> AsyncIterator[Callable[[str], Awaitable[None]]]:
    """A command that runs for as long as the block lasts; what it gives waits for a line that holds a text."""
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", command),
        env=environment(NATS_URL=url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    stream = process.stdout
    assert stream is not None

    async def says(text: str) -> None:
        heard = []
        async with asyncio.timeout(processes.PATIENCE_S):
            async for line in stream:
                heard.append(line.decode())
                if text in heard[-1]:
                    return
        raise AssertionError(f"it never said {text!r}; it said {heard}")

    try:
        yield says
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def end(bus: NatsBus) -> tuple[list[str], Completed]:
    """What is told of the job that is sent, until its end."""
    told = []
    async with asyncio.timeout(processes.PATIENCE_S):
        async for message in bus.follow("EVENTS", "orchestration.score.*.*"):
            event = events.decode(message.body)
            told.append(events.event_name(event))
            if events.is_terminal(event):
                assert isinstance(event, Completed)
                return told, event
    raise AssertionError("a follower does not end by itself")


def test_the_kind_on_the_page_is_the_one_that_is_written(folder: Path) -> None:
    assert KIND in (folder / "score.py").read_text()


def test_its_test_passes(folder: Path) -> None:
    tested = shell(TEST, folder)

    assert tested.returncode == 0, tested.stdout
    assert "2 passed" in tested.stdout


def test_tried_it_tells_the_result_on_standard_output(folder: Path) -> None:
    tried = shell(TRY, folder)

    assert (tried.returncode, tried.stderr) == (0, "")
    assert msgspec.json.decode(tried.stdout) == RESULT


def test_its_test_with_everything_around_it_passes(folder: Path) -> None:
    (folder / "test_in_a_stack.py").write_text(IN_A_STACK)

    tested = shell("python -m pytest", folder)

    assert tested.returncode == 0, tested.stdout
    assert "3 passed" in tested.stdout


def test_its_settings_are_settings(tmp_path: Path) -> None:
    (tmp_path / "jetray.toml").write_text(KINDS + ROUTES)

    settings = load(tmp_path / "jetray.toml", {})

    assert settings.kinds.modules == ["score"]
    assert [route.kind for route in settings.routes] == ["plan", "score"]
    assert tomllib.loads(KINDS) == {"kinds": {"modules": ["score"]}}


@pytest.mark.server
@pytest.mark.asyncio
@pytest.mark.parametrize(
    "variables", [{"RAY_ADDRESS": "none"}, pytest.param({}, marks=pytest.mark.ray)], ids=["without Ray", "with Ray"]
)
async def test_served_it_answers_the_message_on_the_page(folder: Path, variables: dict[str, str]) -> None:
    assert all(f"{name}={value} {UP}" in PAGE for name, value in variables.items())
    _, _, _, _, subject, body = shlex.split(SEND)

    async with served(folder, **variables) as (_, bus):
        await bus.publish(subject, body.encode())
        told, completed = await end(bus)

    assert told == ["started", "completed"]
    assert msgspec.json.decode(completed.result) == RESULT


@pytest.mark.server
@pytest.mark.asyncio
@NEEDS_CLI
async def test_its_nats_commands_do_what_it_says(folder: Path) -> None:
    assert LISTEN.endswith(" &")
    async with served(folder, RAY_ADDRESS="none") as (url, _), listening(f"exec {LISTEN[:-2]} --count 2", url) as heard:
        await heard("Subscribing on orchestration.score.*")
        sent = await asyncio.to_thread(shell, SEND, folder, NATS_URL=url)
        await heard("orchestration.score.started")
        await heard('"result":{"longest":"have","letters":9}')
        kind = await asyncio.to_thread(shell, SHOW_KIND, folder, NATS_URL=url)
        name = load(folder / "jetray.toml", {}).gateway.name
        gateway = await asyncio.to_thread(shell, SHOW_GATEWAY.replace("HOST", name), folder, NATS_URL=url)

    assert sent.returncode == 0, sent.stderr
    assert "jobs.score" in str(msgspec.json.decode(kind.stdout, type=KindInfo).example)
    assert msgspec.json.decode(gateway.stdout, type=GatewayStatus).gateway == name
