"""`RAY_ADDRESS=none`: jobs end as they do on Ray, and nothing of Ray is there."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from msgspec import Struct

from contracts import headers as h
from contracts import subjects
from contracts.batch import BatchResult
from contracts.events import Completed, FilesTracked, Progress, event_name
from tests.checker import Logs, logs, read_all, violations
from tests.integration.stack import Stack, stack

pytestmark = [pytest.mark.asyncio, pytest.mark.server, pytest.mark.slow]

KINDS: Final = '''
import time
from pathlib import Path

from workers import Fail, JobContext, Retry, workflow


def ends(parameters, attempt=1):
    """As it is told to."""
    match parameters["does"]:
        case "fails":
            return Fail("it will never do")
        case "raises":
            raise ValueError("each time")
        case "tries again" if attempt == 1:
            return Retry("once more", after=0.1)
        case "waits":
            return Retry("not today", after=300)
    return {"score": parameters["score"]}


@workflow("plain")
def plain(parameters: dict) -> object:
    """Travels in company."""
    return ends(parameters)


@workflow("files")
def files(ctx: JobContext, parameters: dict) -> object:
    """Makes a file of its input, however it ends."""
    text = (ctx.workspace / "input" / "prompt.txt").read_text()
    output = ctx.workspace / "output"
    (output / "told.txt").write_text(f"{text} {ctx.attempt} {parameters['score']}")
    if parameters["does"] == "links":
        (output / "link.txt").symlink_to("told.txt")
    return ends(parameters, ctx.attempt)


@workflow("turns")
def turns(ctx: JobContext, parameters: dict) -> object:
    """The one that decides waits until it may."""
    while parameters["does"] == "decides" and not Path(parameters["go"]).exists():
        time.sleep(0.02)
    return ends(parameters, ctx.attempt)
'''

SETTINGS: Final = """
routes = []
[kinds]
modules = ["some_kinds"]
[retry]
base_s = 0.05
[profiles.default]
actors = 4
cpus = 0.1
[workspaces]
inputs = ["file://{inputs}"]
"""

PLAIN: Final = (*["completes"] * 8, *["fails", "raises"] * 2)
FILES: Final = (*["completes"] * 4, "links", "tries again", "fails", "raises", "tries again", "completes")
TURNS: Final = (
    *["waits"] * 3,
    *("completes", "fails", "completes", "tries again", "raises", "completes", "tries again", "completes"),
    "decides",
)
GO: Final = "the last one may end"
WAITING: Final = TURNS.count("waits")
ENOUGH: Final = sum(does in {"completes", "tries again", "decides"} for does in TURNS)


class Told(Struct, frozen=True):
    """What came of the batches, less what may differ."""

    events: Counter[tuple[str, str, str]]
    """Name, kind and job id of each event but `progress`."""
    results: Mapping[str, BatchResult]
    letters: Counter[tuple[str, str]]
    """Subject and reason of each dead letter."""
    commits: Counter[tuple[str, str]]
    """Job id, and the commit of a set of files."""


@pytest.mark.ray
@pytest.mark.timeout(240)
async def test_batches_come_to_the_same_with_ray_and_without(tmp_path: Path) -> None:
    without = await _come_to(tmp_path / "none", ray="none")
    on_ray = await _come_to(tmp_path / "local", ray="local")
    assert without.events == on_ray.events
    assert without == on_ray
    # It would be easy to agree on nothing.
    everything = (*PLAIN, *FILES, *TURNS)
    seen = Counter(name for name, kind, _ in on_ray.events.elements() if kind == "variant")
    assert seen == {
        "started": _attempts(everything),
        "retrying": _attempts(everything) - len(everything) + WAITING,
        "files_tracked": _attempts(FILES) - FILES.count("links"),
        "files_tracking_failed": FILES.count("links"),
        "completed": sum(does not in {"fails", "raises", "waits"} for does in everything),
        "failed": sum(does in {"fails", "raises"} for does in everything),
        "cancelled": WAITING,
    }
    assert on_ray.results["turns"].counts["cancelled"] == WAITING


async def test_nothing_of_ray_is_imported(tmp_path: Path) -> None:
    _furnish(tmp_path)
    async with stack(tmp_path) as jetray:
        log = tmp_path / "log"
        gateway = await jetray.gateway(log=log, PYTHONPROFILEIMPORTTIME="1")
        await jetray.publish("jobs.batch", _batch("plain", PLAIN))
        assert isinstance(await jetray.end("batch", "plain"), Completed)
        gateway.terminate()
        assert await gateway.wait() == 0
    imported = set(re.findall(r"^import time:.*\| +(\S+)$", log.read_text(), re.MULTILINE))
    assert imported >= {"infra.pool.process", "infra.pool.tenancy"}, "what the gateway imports, and what its child does"
    assert [name for name in imported if name.partition(".")[0] == "ray"] == []


def _attempts(what: Sequence[str]) -> int:
    """Three for what raises each time, two for what tries again."""
    return len(what) + 2 * what.count("raises") + what.count("tries again")


async def _come_to(folder: Path, *, ray: str) -> Told:
    _furnish(folder)
    async with stack(folder) as jetray:
        await jetray.gateway(ray=ray, log=folder / "log")
        await jetray.publish("jobs.batch", _batch("plain", PLAIN))
        inputs = {"prompt.txt": f"file://{folder}/inputs/prompt.txt"}
        await jetray.publish("jobs.batch", _batch("files", FILES, inputs=inputs, files={"include": ["*.txt"]}))
        for batch_id in ("plain", "files"):
            assert isinstance(await jetray.end("batch", batch_id), Completed)
        await _take_turns(jetray, folder)
        return await _told(jetray)


def _furnish(folder: Path) -> None:
    (folder / "inputs").mkdir(parents=True)
    (folder / "some_kinds.py").write_text(KINDS)
    (folder / "jetray.toml").write_text(SETTINGS.format(inputs=folder / "inputs"))
    (folder / "inputs" / "prompt.txt").write_text("be brief")


def _batch(workflow: str, what: Sequence[str], *, go: Path | None = None, **more: Any) -> bytes:
    """Named after its workflow; the variants in an order that matters where few may be under way."""
    variants = [
        {"name": f"v{number}", "parameters": {"does": does, "score": number, "go": str(go)}}
        for number, does in enumerate(what)
    ]
    return msgspec.json.encode({"batch_id": workflow, "workflow": workflow, "variants": variants, **more})


async def _take_turns(jetray: Stack, folder: Path) -> None:
    """A batch of which those that wait for another attempt are what is cancelled.

    They leave one place: the others come one after the other, and the last one completes the share that is enough.
    """
    asked = _batch(
        "turns", TURNS, go=folder / GO, parallelism=WAITING + 1, policy="threshold", threshold=ENOUGH / len(TURNS)
    )
    await jetray.publish("jobs.batch", asked)
    for number in range(WAITING):
        await jetray.seen("variant", f"turns-v{number}", "retrying")
    (folder / GO).touch()
    assert isinstance(await jetray.end("batch", "turns"), Completed)


async def _told(jetray: Stack) -> Told:
    found = await logs(jetray.bus)
    assert violations(found) == []
    letters = await read_all(jetray.bus, subjects.DLQ, ">")
    return Told(
        events=Counter(
            (event_name(event), kind, job_id)
            for (kind, job_id), log in found.items()
            for event in log
            if not isinstance(event, Progress)
        ),
        results={job_id: _result(log[-1]) for (kind, job_id), log in found.items() if kind == "batch"},
        letters=Counter((letter.subject, letter.headers[h.REASON]) for letter in letters),
        commits=Counter(_commits(found)),
    )


def _result(end: object) -> BatchResult:
    assert isinstance(end, Completed)
    return msgspec.json.decode(end.result, type=BatchResult)


def _commits(found: Logs) -> list[tuple[str, str]]:
    return [
        (job_id, event.commit) for (_, job_id), log in found.items() for event in log if isinstance(event, FilesTracked)
    ]
