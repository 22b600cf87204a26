"""What a kind takes and gives, read from its signature."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from workers.kinds.context import JobContext
from workers.kinds.outcomes import Fail, Retry

__all__ = ["KindError", "Shape", "config_type", "entry_point", "result_type"]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class KindError(Exception):
    """A kind is written wrong, or cannot be imported."""


def entry_point(target: Any, name: str, is_batch: bool) -> Callable[..., Any]:
    """What is called for each job; of a batch kind, what expands it."""
    wanted = ("expand", "reduce") if is_batch else ("run",) if inspect.isclass(target) else ()
    for method in wanted:
        found = getattr(target, method, None)
        if not callable(found):
            raise KindError(f"kind {name}: {target.__qualname__} needs a method {method}")
        if is_batch and inspect.iscoroutinefunction(found):
            raise KindError(f"kind {name}: {method} must not be async; it is a pure function")
    return typing.cast(Callable[..., Any], getattr(target, wanted[0]) if wanted else target)


class Shape:
    """What a kind's entry point takes."""

    def __init__(self, entry: Callable[..., Any], name: str, is_batch: bool) -> None:
        hints = _hints(entry, name)
        parameters = [p for p in inspect.signature(entry).parameters.values() if p.name != "self"]
        contexts = [p for p in parameters if hints.get(p.name) is JobContext or p.name == "ctx"]
        inputs = [p for p in parameters if p not in contexts]
        misplaced = contexts and (parameters[0] is not contexts[0] or is_batch)
        if len(inputs) != 1 or len(contexts) > 1 or misplaced or any(p.kind not in _POSITIONAL for p in parameters):
            raise KindError(f"kind {name}: must take its input, and before it at most a JobContext")
        if inputs[0].name not in hints:
            raise KindError(f"kind {name}: parameter {inputs[0].name} has no type")
        self.takes_context = bool(contexts)
        self.input_type = hints[inputs[0].name]
        _check_json(self.input_type, f"kind {name}: its input type")
        info = getattr(msgspec.inspect.type_info(self.input_type), "fields", None)
        self.fields = None if info is None else [field.encode_name for field in info]


def result_type(entry: Callable[..., Any], name: str) -> Any:
    """What a kind returns, less what it may say instead of a result."""
    hints = _hints(entry, name)
    if "return" not in hints:
        raise KindError(f"kind {name}: its result has no type; annotate what it returns (None is a type too)")
    declared = hints["return"]
    if typing.get_origin(declared) in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(declared) if member not in (Retry, Fail)]
        declared = typing.Union[tuple(members)] if members else Fail  # noqa: UP007 - built from a list of members
    if declared in (Retry, Fail):
        raise KindError(f"kind {name}: its result type names no result beside Retry and Fail (None is a type too)")
    _check_json(declared, f"kind {name}: its result type")
    return declared


def config_type(target: Any) -> Any:
    """What a class takes as its settings; None where it takes none."""
    if not inspect.isclass(target) or target.__init__ is object.__init__:
        return None
    parameters = [p.name for p in inspect.signature(target.__init__).parameters.values() if p.name != "self"]
    if not parameters:
        return None
    hints = _hints(target.__init__, target.__qualname__)
    if len(parameters) > 1 or parameters[0] not in hints:
        raise KindError(f"{target.__qualname__}.__init__ may take one typed parameter: its settings")
    declared = hints[parameters[0]]
    _check_json(declared, f"{target.__qualname__}.__init__: the type of its settings")
    return declared


def _check_json(declared: Any, what: str) -> None:
    try:
        msgspec.json.Decoder(declared)
        # The decoder takes any class on trust; the schema, which KV `kinds` shows, does not.
        msgspec.json.schema(declared)
    except TypeError as error:
        raise KindError(f"{what} does not fit JSON: {error}") from error


def _hints(entry: Any, name: str) -> Mapping[str, Any]:
    try:
        return typing.get_type_hints(entry, include_extras=True)
    except NameError as error:
        raise KindError(f"kind {name}: a type in its signature is not importable at run time: {error}") from error
