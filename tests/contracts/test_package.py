from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

import pytest

import contracts

FOLDER = Path(contracts.__file__).parent
MODULES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("name", MODULES)
def test_what_a_module_offers_is_there_and_in_order(name):
    module = importlib.import_module(f"contracts.{name}")
    offered = getattr(module, "__all__", None)
    if offered is None:
        assert name == "headers", "only the module of header names offers all that it has"
        return
    assert len(set(offered)) == len(offered)
    assert all(hasattr(module, word) for word in offered)


@pytest.mark.parametrize("name", MODULES)
def test_imports_the_standard_library_and_msgspec_alone(name):
    tree = ast.parse((FOLDER / f"{name}.py").read_text())
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    found |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {module.partition(".")[0] for module in found} <= sys.stdlib_module_names | {"msgspec", "contracts"}


@pytest.mark.parametrize("name", MODULES)
def test_the_layout_tells_of_every_module(name):
    assert contracts.__doc__ is not None
    assert name.partition("_")[0] in contracts.__doc__.replace(",", " ").split()


@pytest.mark.parametrize("name", MODULES)
def test_every_module_and_every_class_it_offers_says_what_it_is(name):
    module = importlib.import_module(f"contracts.{name}")
    assert module.__doc__
    for word in getattr(module, "__all__", ()):
        value = getattr(module, word)
        if isinstance(value, type) and value.__module__ == module.__name__:
            assert value.__doc__, f"{word} has no docstring"
