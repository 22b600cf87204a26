"""The document, before the parser of the AsyncAPI project itself.

It needs Node.js and the packages of tests/asyncapi. Where one is missing a run skips with a word, but not in CI.
"""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest

from contracts import asyncapi
from tests.contracts.kinds import ODD, SHIPPED

FOLDER = Path(__file__).parents[1] / "asyncapi"
PATIENCE_S = 100


def node_or_reason() -> tuple[str | None, str]:
    """The `node` to run, from the environment that runs the tests or from the system; or why the parser cannot run."""
    beside = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    node = shutil.which("node", path=beside)
    if node is None:
        return None, "no node on PATH nor beside python: `make venv` installs one"
    if not (FOLDER / "node_modules" / "@asyncapi" / "parser").is_dir():
        return None, "no AsyncAPI parser in tests/asyncapi/node_modules: `make asyncapi` installs it"
    return node, ""


def missing(reason: str, environ: dict[str, str]) -> NoReturn:
    """Skip; in CI fail, since there the document must have been seen by the parser."""
    if environ.get("CI"):
        pytest.fail(f"CI must not skip this: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="module")
def node() -> str:
    found, reason = node_or_reason()
    if found is None:
        missing(reason, dict(os.environ))
    return found


@pytest.fixture
def validate(node, tmp_path):
    def run(document: dict[str, Any]) -> tuple[int, str]:
        file = tmp_path / "asyncapi.json"
        file.write_bytes(asyncapi.encode(document))
        command = [node, str(FOLDER / "validate.mjs"), str(file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [SHIPPED, (*SHIPPED, *ODD)], ids=["shipped", "odd"])
def test_the_parser_accepts_the_document_without_a_warning(validate, kinds):
    document = asyncapi.document(kinds, version="0.1.0")
    status, said = validate(document)
    assert status == 0, said
    assert f"{len(document['channels'])} channels" in said
    assert f"{len(document['operations'])} operations" in said
    assert "0 warning(s)" in said


def _drop_message(document: dict[str, Any]) -> None:
    del document["components"]["messages"]["log.started"]


def _name_no_action(document: dict[str, Any]) -> None:
    document["operations"]["receive.jobs.plan"]["action"] = "reply"


def _spoil_schema(document: dict[str, Any]) -> None:
    document["components"]["schemas"]["Plan"]["required"] = "plan_id"


def _drop_title(document: dict[str, Any]) -> None:
    del document["info"]["title"]


@pytest.mark.slow
@pytest.mark.parametrize("spoil", [_drop_message, _name_no_action, _spoil_schema, _drop_title])
def test_a_broken_document_is_refused(validate, spoil):
    document = copy.deepcopy(asyncapi.document(SHIPPED, version="0.1.0"))
    spoil(document)
    status, said = validate(document)
    assert status == 1, said
    assert "error: " in said


def test_ci_does_not_skip():
    with pytest.raises(pytest.fail.Exception, match="CI must not skip this: no node"):
        missing("no node", {"CI": "true"})
    with pytest.raises(pytest.skip.Exception, match="no node"):
        missing("no node", {})
