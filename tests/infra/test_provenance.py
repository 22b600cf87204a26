"""`infra.pool.provenance`: a foreign package of one of our names is found and named."""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

import pytest

from infra.pool import provenance
from infra.pool.base import ConfigError


def test_our_own_packages_pass() -> None:
    provenance.check()
    provenance.check(provenance.version())


def test_another_version_where_jobs_run_is_named_with_both() -> None:
    with pytest.raises(ConfigError) as refused:
        provenance.check("9.9.9")
    assert f"jetray {provenance.version()}" in str(refused.value)
    assert "the gateway is jetray 9.9.9" in str(refused.value)


def test_a_checkout_that_is_not_installed_has_a_version_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "DISTRIBUTION", "jetray-that-nobody-installed")
    assert provenance.version() == "checkout"


@pytest.mark.parametrize("name", ["contracts", "workers"])
def test_a_foreign_package_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    foreign = tmp_path / name / "__init__.py"
    foreign.parent.mkdir()
    foreign.write_text("raise AssertionError('to look for it must not run it')")
    assert refusal(monkeypatch, tmp_path, name) == (
        f"package {name} is not jetray's: Python finds {foreign} before {provenance.ROOT / name / '__init__.py'}; "
        "rename it, or take its folder off PYTHONPATH and out of the working directory"
    )


def test_a_foreign_module_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "workers.py").write_text("")
    assert f"Python finds {tmp_path / 'workers.py'} before" in refusal(monkeypatch, tmp_path, "workers")


def test_a_folder_without_code_hides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "workers").mkdir()
    hide(monkeypatch, tmp_path, "workers")
    provenance.check()


def test_a_package_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "workers").mkdir()
    monkeypatch.delitem(sys.modules, "workers", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "meta_path", [PathFinder])
    with pytest.raises(ConfigError, match="Python finds none, or a folder without code"):
        provenance.check()


def test_a_module_made_by_hand_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "workers", ModuleType("workers"))
    with pytest.raises(ConfigError, match="package workers is not jetray's"):
        provenance.check()


def hide(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str) -> None:
    """Have Python look for `name` in `folder` first, as in an interpreter that has not imported ours."""
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(folder)


def refusal(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str) -> str:
    hide(monkeypatch, folder, name)
    with pytest.raises(ConfigError) as refused:
        provenance.check()
    text = str(refused.value)
    assert "\n" not in text
    return text
