"""The settings of kind `deliberation`: defaults, roles, and errors that name the setting."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

import msgspec
import pytest
from msgspec import Meta, Struct

from workers.kinds.deliberation.config import (
    Council,
    CouncilOverrides,
    DeliberationConfig,
    Member,
    OfflineSettings,
    OpenAISettings,
    Providers,
)
from workers.kinds.plan import PlanConfig


def read(value: Any) -> DeliberationConfig:
    return msgspec.json.decode(msgspec.json.encode(value), type=DeliberationConfig)


def test_defaults():
    council = read({}).council_for("DEV")
    assert (council.provider, council.num_agents, council.rounds, council.quorum) == ("offline", 3, 1, "majority")
    assert set(council.rubric) == {"quality", "tests", "documentation"}
    assert len(set(council.stances)) == len(council.stances) >= 3


def test_a_role_overrides_field_by_field():
    config = read(
        {
            "council": {"num_agents": 5, "rounds": 2, "rubric": {"quality": 1, "tests": 1}},
            "councils": {"QA": {"rounds": 0, "rubric": {"tests": 3}, "quorum": 4}},
        }
    )
    quality_assurance, other = config.council_for("QA"), config.council_for("DEV")
    assert (quality_assurance.num_agents, quality_assurance.rounds, quality_assurance.quorum) == (5, 0, 4)
    assert quality_assurance.rubric == {"tests": 3}
    assert other == config.council
    assert (other.rounds, other.rubric) == (2, {"quality": 1, "tests": 1})


def test_overrides_have_every_field_of_a_council():
    assert CouncilOverrides.__struct_fields__ == Council.__struct_fields__
    empty = CouncilOverrides()
    assert all(getattr(empty, name) is None for name in empty.__struct_fields__)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"council": {"num_agents": 0}}, "$.council.num_agents"),
        ({"council": {"num_agents": 65}}, "$.council.num_agents"),
        ({"council": {"rounds": -1}}, "$.council.rounds"),
        ({"council": {"rounds": 21}}, "$.council.rounds"),
        ({"council": {"quorum": 0}}, "$.council.quorum"),
        ({"council": {"quorum": "most"}}, "$.council.quorum"),
        ({"council": {"rubric": {}}}, "$.council.rubric"),
        ({"council": {"rubric": {"quality": 0}}}, "$.council.rubric"),
        ({"council": {"stances": []}}, "$.council.stances"),
        ({"council": {"call_timeout_s": 0}}, "$.council.call_timeout_s"),
        ({"council": {"answer_bytes": 10}}, "$.council.answer_bytes"),
        ({"council": {"provider": "magic"}}, "$.council.provider"),
        ({"council": {"agents": [{"id": ""}]}}, "$.council.agents[0].id"),
        ({"council": {"round": 1}}, "unknown field `round` - at `$.council`"),
        ({"councils": {"DEV": {"round": 1}}}, "unknown field `round`"),
        ({"providers": {"openai": {"base_url": "ftp://x"}}}, "$.providers.openai.base_url"),
        ({"providers": {"openai": {"base_url": "http://me:secret@host/v1"}}}, "$.providers.openai.base_url"),
        ({"providers": {"openai": {"base_url": "http://[::1/v1"}}}, "base_url has no host, or a port that is none"),
        ({"providers": {"openai": {"base_url": "http://host:99999/v1"}}}, "base_url has no host, or a port"),
        ({"providers": {"openai": {"temperature": 3}}}, "$.providers.openai.temperature"),
        ({"providers": {"openai": {"timeout_s": 0}}}, "$.providers.openai.timeout_s"),
        ({"providers": {"openai": {"max_retries": 11}}}, "$.providers.openai.max_retries"),
        ({"providers": {"openai": {"api_key_env": "sk-secret"}}}, "$.providers.openai.api_key_env"),
        ({"providers": {"openai": {"api_key": "sk-secret"}}}, "unknown field `api_key`"),
        ({"providers": {"offline": {"think_s": -1}}}, "$.providers.offline.think_s"),
        ({"council": {"quorum": 4}}, "council.quorum is 4, more than the 3 agents of council.num_agents"),
        ({"councils": {"QA": {"num_agents": 1, "quorum": 2}}}, "councils.QA.quorum is 2, more than the 1 agents"),
        ({"council": {"agents": [{"id": n} for n in "abcd"]}}, "council.agents names 4 members and council.num_agents"),
        ({"councils": {"QA": {"agents": [{"id": "a"}, {"id": "a"}]}}}, "councils.QA.agents names 'a' twice"),
        ({"council": {"provider": "openai"}}, "council.provider is openai and nothing names a model"),
        ({"councils": {"QA": {"provider": "openai"}}}, "councils.QA.provider is openai and nothing names a model"),
    ],
)
def test_errors_name_the_setting_and_never_tell_a_secret(value: Any, words: str):
    with pytest.raises(msgspec.ValidationError) as caught:
        read(value)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_model_named_anywhere_will_do():
    read({"council": {"provider": "openai"}, "providers": {"openai": {"model": "m"}}})
    read({"council": {"provider": "openai", "model": "m"}})
    read({"councils": {"QA": {"provider": "openai", "model": "m"}}})


@pytest.mark.parametrize(
    "settings",
    [Council, CouncilOverrides, DeliberationConfig, Member, OfflineSettings, OpenAISettings, PlanConfig, Providers],
)
def test_every_setting_is_described(settings: type[Struct]):
    for name, hint in get_type_hints(settings, include_extras=True).items():
        parts = [hint, *get_args(hint)]
        metas = [meta for part in parts for meta in getattr(part, "__metadata__", ()) if isinstance(meta, Meta)]
        assert any(meta.description for meta in metas), name
