"""The command line as a whole: what it imports, and how it ends."""

from __future__ import annotations

import subprocess
import sys

import pytest

from infra.bus.base import Disconnected
from infra.bus.embedded import ServerMissing
from infra.bus.topology import Foreign
from infra.pool.base import ConfigError
from tests.launcher.processes import environment
from workers.kinds.registry import KindError
from workers.launcher import exits
from workers.settings import BadSettings


def test_help_names_every_command(jetray):
    helped = jetray("--help")

    assert helped.returncode == 0
    for command in ("apply", "asyncapi", "config", "demo", "new", "try", "up", "worker"):
        assert f"│ {command} " in helped.stdout


@pytest.mark.parametrize("command", ["apply", "asyncapi", "config", "demo", "new kind", "try", "up", "worker"])
def test_each_command_helps(jetray, command):
    helped = jetray(*command.split(), "--help")

    assert helped.returncode == 0
    assert f"Usage: jetray {command}" in helped.stdout


@pytest.mark.parametrize("arguments", [("nope",), ("up", "--nats-port", "70000"), ("up", "--nope"), ("try", "a:b")])
def test_wrong_usage_is_exit_status_2(jetray, arguments):
    refused = jetray(*arguments)

    assert refused.returncode == 2
    assert "Error" in refused.stderr


@pytest.mark.parametrize("arguments", [("--help",), ("worker", "--help"), ("config",)])
def test_what_takes_long_to_import_is_imported_by_what_needs_it_alone(arguments, tmp_path):
    traced = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "workers", *arguments],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )

    modules = {line.rpartition("|")[2].strip().partition(".")[0] for line in traced.stderr.splitlines()}
    assert "workers" in modules
    assert not modules & {"ray", "nats", "openai", "opentelemetry"}


@pytest.mark.parametrize("package", ["contracts", "infra"])
@pytest.mark.parametrize("where", ["the working directory", "PYTHONPATH"])
def test_a_foreign_package_in_the_way_is_one_line_and_exit_status_78(tmp_path, package, where):
    foreign, elsewhere = tmp_path / "foreign" / package, tmp_path / "elsewhere"
    foreign.mkdir(parents=True)
    elsewhere.mkdir()
    (foreign / "__init__.py").touch()
    started = subprocess.run(
        [sys.executable, "-m", "workers", "worker"],
        cwd=foreign.parent if where == "the working directory" else elsewhere,
        env=environment() | ({"PYTHONPATH": str(foreign.parent)} if where == "PYTHONPATH" else {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )

    assert started.returncode == 78
    assert started.stderr.count("\n") == 1
    assert str(foreign) in started.stderr
