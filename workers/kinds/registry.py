"""`@job`, `@batch`, and the table of kinds that a gateway knows.

A decorator only describes: it returns a `Kind` and registers nowhere. `load` imports the modules that the settings name
and collects the kinds that stand in them.
"""

from __future__ import annotations

import importlib
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from contracts.catalogue import DOCUMENT_KEY
from contracts.errors import ErrorInfo
from contracts.events import Cancelled, Completed, Failed
from contracts.inbound import InputSpec
from contracts.subjects import HIGH
from contracts.tokens import is_token
from workers.kinds.context import JobContext

__all__ = ["Child", "ChildEnd", "Fail", "Kind", "KindError", "Retry", "batch", "collect", "job", "load"]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

SHIPPED = ("workers.kinds.deliberation", "workers.kinds.plan")
"""Modules of the kinds that ship."""


FailReason = Literal["user", "quorum", "config", "deadline", "dependency", "cancelled_child"]
"""What a kind may give as the reason of its failure."""


class KindError(Exception):
    """A kind is written wrong, or cannot be imported."""


class Retry(Exception):
    """Try again, after `after` seconds or when the policy says. Returned or raised, it spends an attempt."""

    def __init__(self, message: str, *, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class Fail(Exception):
    """Do not try again: the job has failed. Returned or raised."""

    def __init__(self, message: str, *, reason: FailReason = "user") -> None:
        super().__init__(message)
        self.reason = reason


class Child(msgspec.Struct, frozen=True, kw_only=True):
    """One job of a batch, as its `expand` asks for it."""

    key: str
    """Unique within the batch; the child's id is `<batch id>-<key>`."""
    kind: str
    input: Any


class ChildEnd(msgspec.Struct, frozen=True, kw_only=True):
    """How one child ended, as its batch's `reduce` sees it."""

    child: Child
    job_id: str
    outcome: Literal["completed", "failed", "cancelled", "refused"]
    event: Completed | Failed | Cancelled | None
    """The terminal event; None for a refused child, or one whose event is no longer kept."""
    error: ErrorInfo | None
    """Why it did not complete."""


class Kind:
    """A named sort of job: what it takes, what it gives, and how it wants to be run."""

    def __init__(
        self,
        target: Any,
        *,
        name: str,
        version: str,
        id_field: str | None,
        not_identity: Iterable[str],
        profile: str,
        deadline: float | None,
        max_attempts: int | None,
        is_batch: bool,
    ) -> None:
        if not is_token(name) or name.endswith(f"-{HIGH}"):
            raise KindError(f"kind name {name!r} must be a token of A-Z a-z 0-9 _ - and must not end in -{HIGH}")
        if name == DOCUMENT_KEY:
            raise KindError(f"no kind may be named {name}: that key of KV kinds holds the AsyncAPI document")
        self.target = target
        self.name = name
        self.version = version
        self.profile = profile
        self.deadline = deadline
        self.max_attempts = max_attempts
        self.is_batch = is_batch
        self.doc = inspect.getdoc(target) or ""
        entry = _entry_point(target, name, is_batch)
        shape = _Shape(entry, name, is_batch)
        self.takes_context = shape.takes_context
        self.is_async = inspect.iscoroutinefunction(entry)
        self.input_type = shape.input_type
        self.result_type = _result_type(target.reduce if is_batch else entry, name)
        self.config_type = _config_type(target)
        self.id_field = id_field
        self.spec: InputSpec[Any] = InputSpec(shape.input_type, id_field=id_field, not_identity=frozenset(not_identity))
        for setting, field in (("id_field", id_field), *(("not_identity", field) for field in self.spec.not_identity)):
            if field is not None and shape.fields is not None and field not in shape.fields:
                raise KindError(f"kind {name}: {setting} {field!r} is no field of its input")

    def __repr__(self) -> str:
        return f"Kind({self.name!r}, {self.target.__module__}:{self.target.__qualname__})"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function or class itself, so that it can be called and tested as if it were not decorated."""
        return self.target(*args, **kwargs)

    @property
    def exclusive(self) -> bool:
        """A sync kind needs an actor to itself."""
        return not self.is_async

    def build(self, config: msgspec.Raw | None) -> Callable[..., Any]:
        """What to call for each job. A class is built once a host, with its own part of the settings if it asks."""
        if not inspect.isclass(self.target):
            return typing.cast(Callable[..., Any], self.target)
        instance = self.instance(config)
        return typing.cast(Callable[..., Any], instance.run)

    def instance(self, config: msgspec.Raw | None) -> Any:
        """The kind's object, for a kind that is a class."""
        if self.config_type is None:
            return self.target()
        try:
            value = msgspec.json.decode(bytes(config or b"{}"), type=self.config_type)
        except msgspec.DecodeError as error:
            raise KindError(f"kind {self.name}: its settings do not fit: {error}") from error
        return self.target(value)


def job(
    name: str,
    *,
    version: str = "1",
    id_field: str | None = None,
    not_identity: Iterable[str] = (),
    profile: str = "default",
    deadline: float | None = None,
    max_attempts: int | None = None,
) -> Callable[[Any], Kind]:
    """Make a kind of a function, or of a class with a method `run`; sync or async.

    It takes its typed input, and before it a `JobContext` if it wants one; its return annotation is its typed result,
    optionally `| Retry | Fail`. A class may take its settings, typed, in `__init__`.

    `id_field` names the input's field that is the job's id. `not_identity` names fields that do not make two inputs
    different. `deadline` is in seconds for the whole job, never above the operator's.
    """

    def decorate(target: Any) -> Kind:
        return Kind(
            target,
            name=name,
            version=version,
            id_field=id_field,
            not_identity=not_identity,
            profile=profile,
            deadline=deadline,
            max_attempts=max_attempts,
            is_batch=False,
        )

    return decorate


def batch(
    name: str,
    *,
    version: str = "1",
    id_field: str | None = None,
    not_identity: Iterable[str] = (),
    deadline: float | None = None,
    max_attempts: int | None = None,
) -> Callable[[Any], Kind]:
    """Make a batch kind of a class with `expand(self, input) -> Sequence[Child]` and `reduce(self, input, ends)`.

    Both are pure functions of what they are given: after a takeover another gateway calls them again. `reduce` returns
    the typed result, or `Fail`.
    """

    def decorate(target: Any) -> Kind:
        return Kind(
            target,
            name=name,
            version=version,
            id_field=id_field,
            not_identity=not_identity,
            profile="",
            deadline=deadline,
            max_attempts=max_attempts,
            is_batch=True,
        )

    return decorate


def load(modules: Sequence[str]) -> dict[str, Kind]:
    """Name to kind, of the kinds that ship and of those in `modules`. Raises `KindError`."""
    kinds: dict[str, Kind] = {}
    for module in (*SHIPPED, *modules):
        try:
            found = collect(importlib.import_module(module))
        except ImportError as error:
            raise KindError(f"setting kinds.modules: {module} cannot be imported: {error}") from error
        if not found:
            raise KindError(f"setting kinds.modules: {module} holds no kind; decorate a function with @job")
        for kind in found:
            known = kinds.setdefault(kind.name, kind)
            if known is not kind:
                raise KindError(f"kind {kind.name} is declared twice: {known!r} and {kind!r}")
    return kinds


def collect(module: types.ModuleType) -> list[Kind]:
    """The kinds that stand in a module, in order of their names."""
    found = {id(value): value for value in vars(module).values() if isinstance(value, Kind)}
    return sorted(found.values(), key=lambda kind: kind.name)


def collect_from(module: str) -> dict[str, Kind]:
    """Name to kind, of the kinds that stand in a module named as in the settings."""
    return {kind.name: kind for kind in collect(importlib.import_module(module))}


def _entry_point(target: Any, name: str, is_batch: bool) -> Callable[..., Any]:
    wanted = ("expand", "reduce") if is_batch else ("run",) if inspect.isclass(target) else ()
    for method in wanted:
        found = getattr(target, method, None)
        if not callable(found):
            raise KindError(f"kind {name}: {target.__qualname__} needs a method {method}")
        if is_batch and inspect.iscoroutinefunction(found):
            raise KindError(f"kind {name}: {method} must not be async; it is a pure function")
    return typing.cast(Callable[..., Any], getattr(target, wanted[0]) if wanted else target)


class _Shape:
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


def _result_type(entry: Callable[..., Any], name: str) -> Any:
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


def _config_type(target: Any) -> Any:
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
