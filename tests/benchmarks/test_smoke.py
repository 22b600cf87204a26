"""The whole of it, small: the command runs, results are right, and the report says what was found."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.stage import ROOT

pytestmark = [pytest.mark.proof, pytest.mark.slow, pytest.mark.ray, pytest.mark.server]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)


@pytest.mark.timeout(300)
def test_jetray_beside_nats_alone(tmp_path: Path):
    done = bench("throughput", "--quick", "--only", "jetray,nats_alone", "--out", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert found["wrong"] == []
    assert set(found["sections"]["throughput"]) == {"jetray", "nats_alone"}
    assert found["sections"]["throughput"]["jetray"]["per_second"] > 0
    assert found["sections"]["throughput"]["jetray"]["jobs"] == 1_000
    assert [target["what"] for target in found["targets"]] == ["throughput, Jetray ÷ NATS alone"]


@pytest.mark.parametrize(
    ("arguments", "what"),
    [(["speed"], "there is no section speed"), (["throughput", "--only", "jetty"], "there is no contender jetty")],
)
def test_what_is_not_there_is_refused(arguments: list[str], what: str):
    done = bench(*arguments)
    assert done.returncode == 2
    assert what in done.stderr
