"""`jetray demo`, as a user without settings, model or network runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from contracts.errors import ErrorInfo
from contracts.events import Cancelled, Failed
from tests.launcher.processes import PATIENCE_S, descendants, environment, gone, jetray, started
from workers.launcher import demo, exits

EVENTS = (
    "orchestration.plan.started.DEMO",
    "orchestration.deliberation.started.DEMO-DEV",
    "agent.response.progress.DEMO-DEV",
    "orchestration.deliberation.completed.DEMO-ARCHITECT",
    "orchestration.deliberation.completed.DEMO-DEV",
    "orchestration.deliberation.completed.DEMO-QA",
    "orchestration.plan.completed.DEMO",
)


def assert_shown(out: str) -> None:
    for subject in EVENTS:
        assert any(f"  {subject}" in line for line in out.splitlines()), subject
    for role in ("ARCHITECT", "DEV", "QA"):
        assert f"\n{role}: agent-{role.lower()}-" in out
    assert "plan DEMO of story STORY-1: 3 of 3 councils completed" in out


@pytest.mark.server
def test_it_shows_a_plan_and_leaves_nothing_behind(tmp_path):
    # Settings of another gateway are not its business, right or wrong.
    (tmp_path / "jetray.toml").write_text("[gatway]")
    (tmp_path / "tmp").mkdir()
    others = {"NATS_URL": "nats://elsewhere:1", "RAY_ADDRESS": "ray://elsewhere:1", "JETRAY_GATEWAY_GRACE_S": "-1"}

    shown = jetray("demo", "--no-ray", cwd=tmp_path, TMPDIR=str(tmp_path / "tmp"), **others)

    assert shown.returncode == 0, shown.stderr
    assert shown.stderr == ""
    assert_shown(shown.stdout)
    assert list((tmp_path / "tmp").iterdir()) == []
    assert [path.name for path in tmp_path.iterdir() if path.name != "tmp"] == ["jetray.toml"]


@pytest.mark.server
@pytest.mark.asyncio
@pytest.mark.skipif(sys.platform != "linux", reason="waits for processes by their pidfd")
async def test_interrupted_it_leaves_nothing_behind(tmp_path):
    async with started("demo", "--no-ray", cwd=tmp_path, TMPDIR=str(tmp_path)) as running:
        await running.says("published planning.plan.approved")
        below = descendants(running.pid)
        assert len(below) >= 2

        assert await running.stop(signal.SIGINT) == exits.INTERRUPTED
        await gone(below)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.server
@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.asyncio
@pytest.mark.skipif(sys.platform != "linux", reason="waits for processes by their pidfd")
async def test_with_ray_it_leaves_no_process_behind(tmp_path):
    async with started("demo", cwd=tmp_path, TMPDIR=str(tmp_path)) as running:
        await running.says("orchestration.deliberation.completed")
        below = descendants(running.pid)
        assert any("raylet" in name for name in map(command_of, below))

        rest = await running.rest("stdout")
        assert await running.ended() == 0
        assert "plan DEMO of story STORY-1: 3 of 3 councils completed" in rest
        await gone(below)


def with_gateway(code: str, cwd, setup: str = "") -> subprocess.CompletedProcess[str]:
    """A demo whose gateway is a stand-in."""
    script = f"""
import sys
from workers.launcher import demo, main
demo.gateway_command = lambda config: [sys.executable, "-c", {code!r}]
{setup}
sys.exit(main(["demo", "--no-ray"]))
"""
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=cwd,
        env=environment(TMPDIR=str(cwd)),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.mark.server
@pytest.mark.parametrize(
    ("status", "expected", "line"),
    [
        (3, exits.FAILED, "jetray: gateway ended with exit status 3"),
        (78, exits.CONFIG, "jetray: gateway says that its configuration is wrong"),
    ],
)
def test_a_gateway_that_does_not_start_has_the_last_word(status, expected, line, tmp_path):
    failed = with_gateway(f"print('it is broken'); raise SystemExit({status})", tmp_path)

    assert failed.returncode == expected
    assert failed.stderr.splitlines() == ["jetray demo: the gateway's last words:", "it is broken", line]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.server
def test_a_plan_that_takes_too_long_has_failed(tmp_path):
    failed = with_gateway("import signal; signal.pause()", tmp_path, setup="demo.LIMIT_S = 0.2")

    assert failed.returncode == exits.FAILED
    assert failed.stderr.splitlines() == ["jetray: the plan did not end within 0.2 s"]


@pytest.mark.parametrize(
    ("of", "fields", "line"),
    [
        (
            Failed,
            {"error": ErrorInfo(reason="lost", type="Lost", message="gone"), "attempts": 1, "dlq_sequence": 1},
            "the plan failed (lost): gone",
        ),
        (
            Cancelled,
            {"reason": "no more", "requested_by": "somebody", "stage": "running"},
            "somebody cancelled the plan: no more",
        ),
    ],
)
def test_a_plan_that_does_not_complete_is_one_line(of, fields, line):
    now = datetime(2026, 11, 22, tzinfo=UTC)
    common = {"n": 2, "run": 1, "attempt": 1, "time": now, "gateway": "demo", "origin": "PLANNING:1"}

    with pytest.raises(exits.Failure) as failed:
        demo.result_of(of(kind="plan", job_id="DEMO", **common, **fields))
    assert str(failed.value) == line


def command_of(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def test_the_gateway_is_told_nothing_of_others():
    told = demo.environment_of({"JETRAY_X": "1", "RAY_ADDRESS": "a:1", "PATH": os.defpath}, with_ray=True)

    assert told == {"RAY_ADDRESS": "local", "PATH": os.defpath}
