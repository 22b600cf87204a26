"""The command line as a whole: what it imports, and how it ends."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from infra.bus.base import Disconnected
from infra.bus.embedded import ServerMissing
from infra.bus.topology import Foreign
from infra.pool.base import ConfigError
from tests.launcher.processes import COMMAND, PATIENCE_S, ROOT, environment
from workers.kinds.registry import KindError
from workers.launcher import exits
from workers.settings import BadSettings

pytestmark = pytest.mark.slow


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


@pytest.mark.parametrize("package", ["contracts", "infra", "workers"])
def test_a_foreign_package_of_our_name_here_is_one_line_and_exit_status_78(package, tmp_path):
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("raise RuntimeError('this one is not ours')")
    # As the console script does: this directory is not on the path yet.
    script = "import sys; from workers.launcher import main; sys.exit(main())"

    refused = subprocess.run(
        [sys.executable, "-P", "-c", script, "config"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )

    assert refused.returncode == 78
    assert refused.stderr.splitlines() == [
        f"jetray: {tmp_path}/{package}/__init__.py would stand in for Jetray's own: rename it, or start elsewhere"
    ]


@pytest.mark.parametrize("package", ["contracts", "infra"])
@pytest.mark.parametrize("where", ["the working directory", "PYTHONPATH"])
def test_a_foreign_package_in_the_way_of_the_module_is_told_too(tmp_path, package, where):
    foreign, elsewhere = tmp_path / "foreign" / package, tmp_path / "elsewhere"
    foreign.mkdir(parents=True)
    elsewhere.mkdir()
    (foreign / "__init__.py").touch()
    first = {"PYTHONPATH": f"{foreign.parent}{os.pathsep}{ROOT}"} if where == "PYTHONPATH" else {}

    refused = subprocess.run(
        [*COMMAND, "worker"],
        cwd=foreign.parent if where == "the working directory" else elsewhere,
        env=environment(**first),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )

    assert refused.returncode == 78
    assert refused.stderr.count("\n") == 1
    assert str(foreign) in refused.stderr


def test_a_folder_of_our_name_without_code_is_nothing_to_fear(jetray, tmp_path):
    (tmp_path / "infra").mkdir()
    (tmp_path / "infra" / "main.tf").write_text("")

    assert jetray("config").returncode == 0


def test_a_wrong_setting_is_one_line_and_exit_status_78(jetray, tmp_path):
    (tmp_path / "jetray.toml").write_text("[gateway]\nack_wait = 3")

    refused = jetray("worker")

    assert refused.returncode == 78
    assert refused.stderr == "jetray: jetray.toml: gateway has no ack_wait (did you mean ack_wait_s?)\n"
    assert refused.stdout == ""


def test_a_kind_that_cannot_be_imported_is_exit_status_78(jetray, tmp_path):
    (tmp_path / "jetray.toml").write_text('[kinds]\nmodules = ["nowhere"]')

    refused = jetray("asyncapi")

    assert refused.returncode == 78
    assert refused.stderr.startswith("jetray: setting kinds.modules: nowhere cannot be imported")
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize("known", [BadSettings, ConfigError, Foreign, KindError, ServerMissing, exits.Misconfigured])
def test_what_the_operator_has_to_mend_is_78(known):
    assert exits.of(known("mend this")) == exits.Ending(exits.CONFIG, "mend this")


@pytest.mark.parametrize("known", [exits.Failure, Disconnected])
def test_what_did_not_succeed_is_1(known):
    assert exits.of(known("no luck")) == exits.Ending(exits.FAILED, "no luck")


def test_a_defect_keeps_its_traceback():
    assert exits.of(ZeroDivisionError("a defect")) is None


def test_the_configuration_counts_before_what_followed_from_it():
    group = ExceptionGroup("tasks", [Disconnected("then this"), ExceptionGroup("inner", [ConfigError("first this")])])

    assert exits.of(group) == exits.Ending(exits.CONFIG, "first this")


def test_a_defect_beside_a_failure_keeps_its_traceback():
    assert exits.of(ExceptionGroup("tasks", [exits.Failure("no luck"), ZeroDivisionError("a defect")])) is None


def test_the_line_is_one_line_without_passwords():
    ending = exits.of(Disconnected("no server at nats://me:secret@host:4222\nat all"))

    assert ending == exits.Ending(exits.FAILED, "no server at nats://***@host:4222 at all")
