"""`jetray new kind`."""

from __future__ import annotations

import subprocess
import sys
import tomllib

import msgspec
import pytest

from tests.launcher.processes import environment
from workers.launcher.exits import Failure
from workers.launcher.scaffold import scaffold

pytestmark = pytest.mark.slow


def test_it_writes_a_kind_and_a_test_and_says_how_to_run_both(jetray, tmp_path):
    made = jetray("new", "kind", "Word-Count")

    assert made.returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["test_word_count.py", "word_count.py"]
    commands = [line.strip() for line in made.stdout.splitlines() if line.startswith("  ")]
    assert commands[0] == "python -m pytest test_word_count.py"
    assert commands[1].endswith("| jetray try word_count:Word-Count -")
    assert tomllib.loads("\n".join(commands[2:])) == {"kinds": {"modules": ["word_count"]}}


def test_what_it_says_to_run_next_works(jetray, tmp_path):
    made = scaffold("word-count", tmp_path)
    commands = [line.strip() for line in made.told() if line.startswith("  ")]
    sample = commands[1].split("'")[1]

    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", made.test.name],
        cwd=tmp_path,
        env=environment(PYTEST_DISABLE_PLUGIN_AUTOLOAD="1"),
        capture_output=True,
        text=True,
        check=False,
    )
    tried = jetray("try", "word_count:word-count", "-", stdin=sample)

    assert tested.returncode == 0, tested.stdout
    assert "2 passed" in tested.stdout
    assert msgspec.json.decode(tried.stdout) == {"longest": "have", "letters": 9}


def test_a_gateway_finds_the_kind_in_the_working_directory(jetray, tmp_path):
    made = scaffold("word-count", tmp_path)
    _, _, *settings = [line.strip() for line in made.told() if line.startswith("  ")]
    (tmp_path / "jetray.toml").write_text("\n".join(settings))

    described = jetray("asyncapi")

    assert "jobs.word-count" in msgspec.json.decode(described.stdout)["channels"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("a.b", "cannot name a kind"),
        ("", "cannot name a kind"),
        ("review-high", "cannot name a kind"),
        ("1st", "Python cannot import"),
        ("class", "Python cannot import"),
        ("--", "Python cannot import"),
        ("json", "there is a module json already"),
    ],
)
def test_a_name_that_would_not_do_is_refused(name, why, tmp_path):
    with pytest.raises(Failure, match=why):
        scaffold(name, tmp_path)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("there", ["score.py", "test_score.py"])
def test_it_overwrites_nothing(there, tmp_path):
    (tmp_path / there).write_text("# mine")

    with pytest.raises(Failure, match=f"{there} exists"):
        scaffold("score", tmp_path)

    assert [path.read_text() for path in tmp_path.iterdir()] == ["# mine"]
