"""Settings from a tree and an environment, whatever the settings are."""

from __future__ import annotations

from typing import Annotated

import pytest
from msgspec import Meta, Struct

from workers.settings_source import BadSettings, convert, overlay


class Inner(Struct, frozen=True, forbid_unknown_fields=True):
    size: int = 1
    size_of_all: int = 2


class Tree(Struct, forbid_unknown_fields=True):
    inner: Annotated[Inner, Meta(description="annotated")] = Inner()
    inner_two: Inner = Inner()
    many: dict[str, list[Inner]] = {}


def test_the_tree_itself_stays_as_it_is():
    tree = {"inner": {"size": 5}}

    assert overlay(tree, Tree, {"JETRAY_INNER_SIZE": "7"}, {}) == {"inner": {"size": 7}}
    assert tree == {"inner": {"size": 5}}


def test_the_longest_name_counts():
    environment = {"JETRAY_INNER_SIZE_OF_ALL": "3", "JETRAY_INNER_TWO_SIZE": "4"}

    assert overlay({}, Tree, environment, {}) == {"inner": {"size_of_all": 3}, "inner_two": {"size": 4}}


def test_a_name_of_its_own_needs_no_prefix():
    assert overlay({}, Tree, {"SIZE": "3"}, {"SIZE": ("inner", "size")}) == {"inner": {"size": 3}}


def test_what_is_wrong_deep_down_is_named():
    tree = {"many": {"fine": [{}], "not so": [{"size": 1}, {"size": "big"}]}}

    with pytest.raises(BadSettings, match=r"^here: setting many\.not so\[1\]\.size: expected `int`, got `str`$"):
        convert(tree, Tree, "here")
