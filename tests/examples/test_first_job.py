"""docs/first-job.md, followed by the letter."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.launcher.processes import environment
from workers.launcher.scaffold import scaffold
from workers.settings import load

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "first-job.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The page's code in one language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Where its first command was run."""
    assert "    jetray new kind score\n" in PAGE
    for line in scaffold("score", tmp_path).told():
        if line.startswith("  "):
            assert f"    {line.strip()}\n" in PAGE
    return tmp_path


def test_the_kind_on_the_page_is_the_one_that_is_written(folder):
    assert blocks("python")[0] in (folder / "score.py").read_text()


def test_its_tests_pass_with_and_without_a_stack(folder):
    (folder / "test_in_a_stack.py").write_text(blocks("python")[1])

    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "-p", "no:cacheprovider", "-p", "anyio"],
        cwd=folder,
        env=environment(PYTEST_DISABLE_PLUGIN_AUTOLOAD="1"),
        capture_output=True,
        text=True,
        check=False,
    )

    assert tested.returncode == 0, tested.stdout
    assert "3 passed" in tested.stdout


def test_its_settings_are_settings(tmp_path):
    kinds, routes = blocks("toml")
    (tmp_path / "jetray.toml").write_text(kinds + routes)

    settings = load(tmp_path / "jetray.toml", {})

    assert settings.kinds.modules == ["score"]
    assert [route.kind for route in settings.routes] == ["plan", "score"]
    assert tomllib.loads(kinds) == {"kinds": {"modules": ["score"]}}
