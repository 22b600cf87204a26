"""`jetray config`."""

from __future__ import annotations

import tomllib


def test_it_prints_the_effective_settings(jetray, tmp_path):
    (tmp_path / "jetray.toml").write_text("[gateway]\ngrace_s = 7.0")

    shown = jetray("config", NATS_URL="nats://me:secret@host:4222", JETRAY_GATEWAY_NAME="gw-7")

    assert shown.returncode == 0
    tree = tomllib.loads(shown.stdout)
    assert tree["gateway"]["grace_s"] == 7.0
    assert tree["gateway"]["name"] == "gw-7"
    assert tree["nats"]["url"] == "nats://***@host:4222"


def test_it_reads_the_file_that_is_given(jetray, tmp_path):
    (tmp_path / "other.toml").write_text("[gateway]\ngrace_s = 7.0")

    for arguments in (("other.toml",), ("--config", "other.toml")):
        assert tomllib.loads(jetray("config", *arguments).stdout)["gateway"]["grace_s"] == 7.0


def test_init_writes_a_file_that_it_reads(jetray, tmp_path):
    plain = jetray("config").stdout

    made = jetray("config", "--init")

    assert (made.returncode, made.stderr, made.stdout) == (0, "wrote jetray.toml\n", "")
    assert jetray("config").stdout == plain


def test_init_overwrites_nothing(jetray, tmp_path):
    (tmp_path / "mine.toml").write_text("# mine")

    refused = jetray("config", "--init", "mine.toml")

    assert refused.returncode == 1
    assert refused.stderr == "jetray: mine.toml exists, and is left as it is\n"
    assert (tmp_path / "mine.toml").read_text() == "# mine"


def test_init_says_where_it_cannot_write(jetray, tmp_path):
    refused = jetray("config", "--init", "nowhere/jetray.toml")

    assert refused.returncode == 1
    assert refused.stderr == "jetray: nowhere/jetray.toml cannot be written: No such file or directory\n"
