"""A short run of the whole: no Ray, one nats-server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.launcher.processes import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.proof, pytest.mark.server]

SHORT = ("--servers", "1", "--places", "none,none", "--minutes", "0.5", "--jobs", "60", "--seed", "11")


def command(report: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "tests.chaos", *SHORT, "--report", str(report), *more]


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(folder)}


@pytest.mark.timeout(400)
def test_a_short_run_keeps_every_promise_and_says_so(tmp_path: Path) -> None:
    report = tmp_path / "build" / "chaos.json"
    done = subprocess.run(
        command(report), cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True, timeout=390, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = msgspec.json.decode(report.read_bytes())
    assert (said["seed"], said["jobs"], said["verdict"]) == (11, 60, "kept")
    assert (said["lost"], said["double ends"], said["gaps"], said["other"]) == (0, 0, 0, 0)
    assert sum(said["faults"].values()) >= 1
    assert said["versions"]["nats-server"].startswith("2.")
    assert "60 jobs accepted" in report.with_suffix(".md").read_text()
    assert list(tmp_path.glob("jetray-chaos-*")) == []


@pytest.mark.timeout(200)
def test_an_interrupted_run_ends_everything_that_it_started(tmp_path: Path) -> None:
    with subprocess.Popen(
        command(tmp_path / "chaos.json"), cwd=ROOT, env=environment(tmp_path), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "gateways serve" in line:
                break
        assert working_below(tmp_path) != []
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait() == 130
    assert "broken off" in rest
    assert working_below(tmp_path) == []


def working_below(folder: Path) -> list[str]:
    """Processes whose working directory, or command line, lies in a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                where = os.readlink(entry / "cwd")
                name = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if str(folder) in where or (str(folder) in name and "tests.chaos" not in name):
                found.append(f"{entry.name} {name}")
    return found
