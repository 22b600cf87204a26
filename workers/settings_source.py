"""Where settings come from: a TOML file, and the environment over it. And what to say of those that are wrong."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Struct

__all__ = ["BadSettings", "convert", "overlay", "read"]

PREFIX: Final = "JETRAY_"
_NO_SETTINGS: Final = ("JETRAY_READY_FD", "JETRAY_IMAGE")
"""Between our own processes, and of docker-compose.yml."""
_STEP: Final = re.compile(r"\.(?P<field>[^.\[\]]+)|\[(?P<index>\d+)\]|(?P<any>\[\.\.\.\])")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(?P<name>.*)`")


class BadSettings(Exception):
    """A setting is wrong: one line that names it."""


def read(file: Path) -> dict[str, Any]:
    """What the file says. Raises `BadSettings`."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadSettings(f"settings file {file} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSettings(f"settings file {file} is not TOML: {error}") from error


def convert(tree: Mapping[str, Any], of: type[Struct], source: str) -> Any:
    """The typed settings. Raises `BadSettings` that names `source` and the setting."""
    try:
        return msgspec.convert(tree, of)
    except msgspec.ValidationError as error:
        raise BadSettings(f"{source}: {_in_words(error, tree, of)}") from error


def overlay(
    tree: Mapping[str, Any], of: type[Struct], environment: Mapping[str, str], also: Mapping[str, tuple[str, ...]]
) -> dict[str, Any]:
    """`tree` with what the environment sets in it: `JETRAY_<SECTION>_<FIELD>`, and the variables of `also`.

    An empty variable sets nothing. Lists are comma-separated. A variable that begins as ours and names no section is
    somebody else's, unless it looks like a misspelt one. Raises `BadSettings` that names the variable.
    """
    merged: dict[str, Any] = _copy(tree)
    for variable in sorted(environment):
        text = environment[variable]
        path = also.get(variable) or _path(variable, of)
        if path is not None and text:
            _set(merged, path, _value(variable, text, _type_at(of, path)))
    return merged


def _copy(value: Any) -> Any:
    return {name: _copy(each) for name, each in value.items()} if isinstance(value, Mapping) else value


def _set(tree: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
        if not isinstance(tree, dict):
            # The file has a plain value where a table belongs; `convert` says so of the file.
            return
    tree[path[-1]] = value


def _path(variable: str, of: type[Struct]) -> tuple[str, ...] | None:
    """The setting that a variable names; None where it is not one of ours."""
    if not variable.startswith(PREFIX) or variable in _NO_SETTINGS:
        return None
    rest = variable.removeprefix(PREFIX).lower()
    section = _longest_prefix(rest, of)
    if section is None:
        first = rest.partition("_")[0]
        if difflib.get_close_matches(first, _fields(of), n=1, cutoff=0.8):
            raise BadSettings(
                f"environment variable {variable}: there is no section {first}{_hint(first, _fields(of))}"
            )
        return None
    path: tuple[str, ...] = ()
    while rest:
        name = _longest_prefix(rest, of)
        if name is None:
            where = f"[{'.'.join(path)}]"
            raise BadSettings(f"environment variable {variable}: {where} has no {rest}{_hint(rest, _fields(of))}")
        path, rest = (*path, name), rest[len(name) + 1 :]
        inner = _fields(of)[name]
        if not _is_struct(inner):
            if rest or _takes_tables(inner):
                raise BadSettings(
                    f"environment variable {variable}: {'.'.join(path)} is set in the settings file alone"
                )
            return path
        of = inner
    raise BadSettings(f"environment variable {variable}: [{'.'.join(path)}] is a section; name one of its settings")


def _longest_prefix(rest: str, of: type[Struct]) -> str | None:
    found = [name for name in _fields(of) if rest == name or rest.startswith(f"{name}_")]
    return max(found, key=len, default=None)


def _value(variable: str, text: str, wanted: Any) -> Any:
    value: Any = [item.strip() for item in text.split(",")] if get_origin(_bare(wanted)) is list else text
    try:
        return msgspec.convert(value, wanted, strict=False)
    except msgspec.ValidationError as error:
        raise BadSettings(f"environment variable {variable}: {_lower(str(error).partition(' - at ')[0])}") from error


def _type_at(of: Any, path: Iterable[str]) -> Any:
    for name in path:
        of = _fields(_bare(of), bare=False)[name]
    return of


def _in_words(error: msgspec.ValidationError, tree: Any, of: Any, under: str = "") -> str:
    """`$.profiles[...].actors` as a user knows it: `setting profiles.gpu.actors`, and what is wrong with it."""
    text, _, where = str(error).partition(" - at `")
    key, _, mapping = where.rpartition("` in `")
    for step in _STEP.finditer(mapping.rstrip("`")):
        if step["field"] is not None:
            under = f"{under}.{step['field']}" if under else step["field"]
            tree = tree.get(step["field"]) if isinstance(tree, Mapping) else None
            of = _fields(of).get(step["field"]) if _is_struct(of) else None
        elif step["index"] is not None:
            under = f"{under}[{step['index']}]"
            tree, of = tree[int(step["index"])], _bare(_argument(of))
        else:
            # msgspec does not say which key of a mapping it is about.
            return _of_one_key(error, tree, of, under)
    unknown = _UNKNOWN.fullmatch(text)
    if unknown is not None:
        place = f"{under} has no" if under else "there is no section"
        names = _fields(of) if _is_struct(of) else ()
        return f"{place} {unknown['name']}{_hint(unknown['name'], names)}"
    return f"setting {under}: {'a key of it: ' if key else ''}{_lower(text)}"


def _of_one_key(error: msgspec.ValidationError, tree: Any, of: Any, under: str) -> str:
    inner = _argument(of)
    for key, value in tree.items():
        try:
            msgspec.convert(value, inner)
        except msgspec.ValidationError as found:
            return _in_words(found, value, _bare(inner), f"{under}.{key}")
    return f"setting {under}: {_lower(str(error))}"


def _hint(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _fields(of: Any, *, bare: bool = True) -> dict[str, Any]:
    """A struct's fields and their types, with or without what is annotated to them."""
    hints = get_type_hints(of, include_extras=True)
    return {name: _bare(hints[name]) if bare else hints[name] for name in of.__struct_fields__}


def _bare(of: Any) -> Any:
    """A type without what is annotated to it, and without the `None` of what may be left out."""
    while True:
        if get_origin(of) is Annotated:
            of = get_args(of)[0]
        elif get_origin(of) in (Union, UnionType) and len(given := [a for a in get_args(of) if a is not NoneType]) == 1:
            of = given[0]
        else:
            return of


def _argument(of: Any) -> Any:
    """What a list or a mapping holds."""
    arguments = get_args(_bare(of))
    return arguments[-1] if arguments else Any


def _is_struct(of: Any) -> bool:
    return isinstance(of, type) and issubclass(of, Struct)


def _takes_tables(of: Any) -> bool:
    bare = _bare(of)
    return get_origin(bare) is dict or (get_origin(bare) is list and _is_struct(_bare(_argument(bare))))
