"""Settings as TOML: the annotated file, and the effective ones with secrets masked."""

from __future__ import annotations

import re
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from workers.settings import BadSettings, Settings, load
from workers.settings_file import WIDTH, annotated, effective, masked_text


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty directory to be in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def loaded(text: str) -> Settings:
    Path("jetray.toml").write_text(text, encoding="utf-8")
    return load(None, {})


def uncommented(text: str) -> str:
    return re.sub(r"(?m)^#(?=[^ \n])", "", text)


def test_the_annotated_file_gives_the_defaults(here):
    defaults = load(None, {})

    assert loaded(annotated()) == defaults


def test_its_examples_can_be_switched_on(here):
    settings = loaded(uncommented(annotated()))

    assert [route.kind for route in settings.routes] == ["plan", "deliberation"]
    assert settings.profiles["models"].gpus == 1.0
    assert settings.kinds.settings["deliberation"].profile == "models"
    assert settings.councils["ARCHITECT"].rubric == {"quality": 0.6, "simplicity": 0.4}
    assert settings.nats.credentials == "jetray.creds"
    assert settings.providers.openai.temperature == 0.7


def test_it_says_of_every_setting_what_it_is():
    lines = annotated().splitlines()

    for before, line in pairwise(lines):
        if re.match(r"#?\w+ = ", line) and not re.match(r"#\w+ = ", before) and not before.startswith("#["):
            assert before.startswith("# ") or before == "[roots]", line
    for section in Settings.__struct_fields__:
        assert any(re.match(rf"\[?\[{section}", line) for line in lines), section


def test_it_names_every_setting():
    tree = tomllib.loads(uncommented(annotated()))

    assert set(tree) == set(Settings.__struct_fields__)
    for section in ("nats", "ray", "gateway", "limits", "retry", "streams", "watermarks", "plan", "council"):
        assert set(tree[section]) == set(getattr(Settings(), section).__struct_fields__)
    assert set(tree["providers"]["openai"]) == set(Settings().providers.openai.__struct_fields__)


def test_its_lines_fit_a_screen():
    assert max(len(line) for line in annotated().splitlines()) <= WIDTH


ELABORATE = """
[nats]
url = "nats://first:4222,nats://second:4222"

[kinds]
modules = ["one", "two"]

[kinds.settings.score]
deadline_s = 30.0
config = { letters = 3, "with a space" = { deeper = [1, 2.5, true] } }

[profiles.default]
runtime_env = { env_vars = { HOME = "/home/\\"me\\"\\u007f\\n" } }

[profiles."with a space"]
actors = 1

[council]
agents = [{ id = "one", stance = "bold" }, { id = "two" }]

[councils.DEV]
rounds = 0
rubric = { speed = 1.0 }
"""


def test_effective_settings_can_be_loaded_again(here):
    settings = loaded(ELABORATE)

    assert loaded(effective(settings)) == settings
    assert loaded(effective(load(None, {}))) == settings


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://host:4222", "nats://host:4222"),
        ("nats://user:pa/ss@host:4222", "nats://***@host:4222"),
        ("nats://token@host", "nats://***@host"),
        ("user:password@host:4222", "***@host:4222"),
        ("nats://u:p@one:1,tls://q:r@two:2", "nats://***@one:1,tls://***@two:2"),
    ],
)
def test_users_of_servers_are_masked(url, shown):
    settings = Settings(nats=msgspec.structs.replace(Settings().nats, url=url))

    assert tomllib.loads(effective(settings))["nats"]["url"] == shown


def test_secrets_in_the_operators_own_words_are_masked(here):
    secrets = {
        "env_vars": {
            "AWS_SECRET_ACCESS_KEY": "secret-1",
            "HF_TOKEN": "secret-2",
            "DB_PASSWORD": "secret-3",
            "BASIC_AUTH": "secret-4",
            "DSN": "secret-5",
            "EMPTY_KEY": "",
            "REGION": "eu-1",
        },
        "pip": ["--index-url https://me:secret-6@packages.example/simple", "numpy==2.0"],
        "credentials": {"anything": ["secret-7"]},
    }
    inline = effective(
        Settings(profiles={"default": msgspec.structs.replace(Settings().profiles["default"], runtime_env=secrets)})
    )

    shown: dict[str, Any] = tomllib.loads(inline)["profiles"]["default"]["runtime_env"]
    assert "secret-" not in inline
    assert shown["env_vars"]["HF_TOKEN"] == "***"
    assert shown["env_vars"]["EMPTY_KEY"] == ""
    assert shown["env_vars"]["REGION"] == "eu-1"
    assert shown["pip"] == ["--index-url https://***@packages.example/simple", "numpy==2.0"]


def test_secrets_are_masked_wherever_words_are_free(here):
    settings = loaded(
        '[kinds.settings.score.config]\napi_key = "secret-1"\nletters = 3\n'
        '[providers.openai.extra_body]\nuser_token = "secret-2"\nmax_completion_tokens = 500\n'
        '[roots]\nfar = "s3://me:secret-3@bucket/prefix"\n'
    )
    shown = effective(settings)

    assert "secret-" not in shown
    tree = tomllib.loads(shown)
    assert tree["kinds"]["settings"]["score"]["config"] == {"api_key": "***", "letters": 3}
    assert tree["providers"]["openai"]["extra_body"] == {"user_token": "***", "max_completion_tokens": 500}
    assert tree["roots"]["far"] == "s3://***@bucket/prefix"


def test_what_is_no_secret_is_shown():
    tree = tomllib.loads(effective(Settings(nats=msgspec.structs.replace(Settings().nats, credentials="my.creds"))))

    assert tree["nats"]["credentials"] == "my.creds"
    assert tree["providers"]["openai"]["api_key_env"] == "OPENAI_API_KEY"


def test_text_keeps_all_but_users_of_urls():
    assert masked_text("no server at nats://u:p@host:4222, see a@b") == "no server at nats://***@host:4222, see a@b"


def test_bad_settings_are_the_only_error_of_a_bad_file(here):
    with pytest.raises(BadSettings):
        loaded(annotated().replace("[gateway]", "[gatway]"))
