"""`jetray new kind`: a module that holds one kind, and its test."""

from __future__ import annotations

import importlib.util
import keyword
import re
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Final

from contracts.subjects import HIGH
from contracts.tokens import is_token
from workers.launcher.exits import Failure
from workers.settings import FILE

__all__ = ["Made", "scaffold"]

_MODULE: Final = Template('''\
"""Kind `$kind`."""

from msgspec import Struct

from workers import Fail, job


class ${class_}Input(Struct):
    """What a message to jobs.$kind holds."""

    words: list[str]


class ${class_}Result(Struct):
    """What its `completed` event tells."""

    longest: str
    letters: int


# To report progress, take a `JobContext` before the input. To call a service, make the function async.
@job("$kind")
def $module(task: ${class_}Input) -> ${class_}Result | Fail:
    """Find the longest word, and count the letters of all."""
    if not task.words:
        return Fail("there are no words")
    return ${class_}Result(longest=max(task.words, key=len), letters=sum(map(len, task.words)))
''')

_TEST: Final = Template('''\
"""Kind `$kind`: a decorated function is called like any other."""

from $module import ${class_}Input, ${class_}Result, $module
from workers import Fail


def test_it_finds_the_longest_word():
    assert $module(${class_}Input(words=["to", "have", "and"])) == ${class_}Result(longest="have", letters=9)


def test_it_fails_without_words():
    failed = $module(${class_}Input(words=[]))

    assert isinstance(failed, Fail)
    assert str(failed) == "there are no words"
''')

_SAMPLE: Final = '{"words": ["to", "have", "and"]}'


@dataclass(frozen=True, slots=True)
class Made:
    """What was written."""

    kind: str
    module: Path
    test: Path

    def told(self) -> list[str]:
        """What to tell the user: the files, the two commands to run next, and how a gateway gets to know the kind."""
        return [
            f"wrote {self.module.name} and {self.test.name}; now run",
            "",
            f"  python -m pytest {self.test.name}",
            f"  echo '{_SAMPLE}' | jetray try {self.module.stem}:{self.kind} -",
            "",
            f"A gateway that is to run it names its module in {FILE}:",
            "",
            "  [kinds]",
            f'  modules = ["{self.module.stem}"]',
        ]


def scaffold(kind: str, directory: Path) -> Made:
    """Write the module and its test. Raises `Failure`, and then has written nothing."""
    module = re.sub(r"[^a-z0-9]+", "_", kind.lower()).strip("_")
    if not is_token(kind) or kind.endswith(f"-{HIGH}"):
        raise Failure(f"{kind!r} cannot name a kind: take 1 to 128 of A-Z a-z 0-9 _ -, not ending in -{HIGH}")
    if not module.isidentifier() or keyword.iskeyword(module):
        raise Failure(f"a kind named {kind} would stand in {module}.py, which Python cannot import: take another name")
    made = Made(kind, directory / f"{module}.py", directory / f"test_{module}.py")
    for path in (made.module, made.test):
        if path.exists():
            raise Failure(f"{path.name} exists, and is left as it is")
    if importlib.util.find_spec(module) is not None:
        raise Failure(f"there is a module {module} already, and a second one would hide it: take another name")
    words = {"kind": kind, "module": module, "class_": "".join(part.capitalize() for part in module.split("_"))}
    made.module.write_text(_MODULE.substitute(words), encoding="utf-8")
    made.test.write_text(_TEST.substitute(words), encoding="utf-8")
    return made
