"""`@job`, `@batch`, and the table of kinds that a gateway knows.

A decorator only describes: it returns a `Kind` and registers nowhere. `load` imports the modules that the settings name
and collects the kinds that stand in them.
"""

from __future__ import annotations

import importlib
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from contracts.catalogue import DOCUMENT_KEY
from contracts.inbound import InputSpec
from contracts.subjects import HIGH
from contracts.tokens import is_token
from workers.kinds import workflow
from workers.kinds.options import Classes, ErrorClasses, check_counts, check_seconds
from workers.kinds.outcomes import Child, ChildEnd, Fail, Retry
from workers.kinds.shape import KindError, Shape, config_type, entry_point, result_type

__all__ = ["Child", "ChildEnd", "Fail", "Kind", "KindError", "Retry", "batch", "collect", "job", "load"]

SHIPPED = ("workers.kinds.deliberation", "workers.kinds.plan", "workers.kinds.batch", "workers.kinds.variant")
"""Modules of the kinds that ship."""


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
        max_lost: int | None,
        retry_base: float | None,
        retry_cap: float | None,
        is_batch: bool,
        attempt_deadline: float | None = None,
        retry_on: Classes | None = None,
        no_retry: Classes = (),
    ) -> None:
        if not is_token(name) or name.endswith(f"-{HIGH}"):
            raise KindError(f"kind name {name!r} must be a token of A-Z a-z 0-9 _ - and must not end in -{HIGH}")
        if name == DOCUMENT_KEY:
            raise KindError(f"no kind may be named {name}: that key of KV kinds holds the AsyncAPI document")
        check_seconds(
            name, deadline=deadline, attempt_deadline=attempt_deadline, retry_base=retry_base, retry_cap=retry_cap
        )
        check_counts(name, 1, max_attempts=max_attempts)
        check_counts(name, 0, max_lost=max_lost)
        self.target = target
        self.name = name
        self.version = version
        self.profile = profile
        self.deadline = deadline
        self.attempt_deadline = attempt_deadline
        self.max_attempts = max_attempts
        self.max_lost = max_lost
        self.retry_base = retry_base
        self.retry_cap = retry_cap
        self.errors = ErrorClasses(name, retry_on=retry_on, no_retry=no_retry)
        self.is_batch = is_batch
        self.doc = inspect.getdoc(target) or ""
        entry = entry_point(target, name, is_batch)
        shape = Shape(entry, name, is_batch)
        self.takes_context = shape.takes_context
        self.is_async = inspect.iscoroutinefunction(entry)
        self.input_type = shape.input_type
        self.result_type = result_type(target.reduce if is_batch else entry, name)
        self.config_type = config_type(target)
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

    @property
    def is_short(self) -> bool:
        """Nothing is heard of such a job before its outcome, so many may travel in one call."""
        return not (self.is_batch or self.takes_context)

    @property
    def may_share(self) -> bool:
        """Some of its jobs may travel in one call with others, if not all."""
        has_company = inspect.isclass(self.target) and callable(getattr(self.target, "company", None))
        return self.is_short or (has_company and self.takes_context and not self.is_async)

    def company(self, config: msgspec.Raw | None) -> Callable[[Any], str | None]:
        """What tells of an input with which others its job may share a call: those that get the same word; None: none.

        A class whose method `run` takes a context may say so by a method `company(self, input)`, for jobs of which
        nothing need be heard: what they report is dropped, and to track files is an error. It must be quick: it is
        asked where jobs arrive.
        """
        return (lambda _: "") if self.is_short else typing.cast(Any, self.instance(config)).company

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
    attempt_deadline: float | None = None,
    max_attempts: int | None = None,
    max_lost: int | None = None,
    retry_base: float | None = None,
    retry_cap: float | None = None,
    retry_on: Classes | None = None,
    no_retry: Classes = (),
) -> Callable[[Any], Kind]:
    """Make a kind of a function, or of a class with a method `run`; sync or async.

    It takes its typed input, and before it a `JobContext` if it wants one; its return annotation is its typed result,
    optionally `| Retry | Fail`. A class may take its settings, typed, in `__init__`.

    `id_field` names the input's field that is the job's id. `not_identity` names fields that do not make two inputs
    different.

    `deadline` is in seconds for the whole job, never above the operator's; `attempt_deadline` for one attempt: past it
    the attempt is an error like any other, and another one may follow. `max_attempts` counts attempts that end with an
    error, `max_lost` those lost with what ran them. Before the next one there is a random delay of at most `retry_base`
    seconds, twice as much each time, and never above `retry_cap`. Errors of the classes `no_retry` end the job at once,
    and so do others than `retry_on` where that is given. What the operator sets for the kind counts instead.
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
            attempt_deadline=attempt_deadline,
            max_attempts=max_attempts,
            max_lost=max_lost,
            retry_base=retry_base,
            retry_cap=retry_cap,
            retry_on=retry_on,
            no_retry=no_retry,
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
    max_lost: int | None = None,
    retry_base: float | None = None,
    retry_cap: float | None = None,
) -> Callable[[Any], Kind]:
    """Make a batch kind of a class with `expand(self, input) -> Sequence[Child]` and `reduce(self, input, ends)`.

    `reduce` gets a `ChildEnd` for each child and returns the typed result, or `Fail`, as `expand` may, too. The class
    may also have

    * `parallelism(self, input) -> int | None`: how many children may be under way at once,
    * `settled(self, input, counts) -> str | None`: why the children that go on need not; they are cancelled then.
      `counts` has children by `completed`, `failed`, `cancelled`, `refused` and `open`. What it has said it must say
      again when more have ended,
    * `outline(self, end: ChildEnd) -> Any`: what `reduce` gets instead of an end. Without it every child's result is in
      memory at once.

    All of them are pure functions of what they are given: after a takeover another gateway calls them again.
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
            max_lost=max_lost,
            retry_base=retry_base,
            retry_cap=retry_cap,
            is_batch=True,
        )

    return decorate


def load(modules: Sequence[str]) -> dict[str, Kind]:
    """Name to kind, of the kinds that ship and of those in `modules`. Raises `KindError`."""
    kinds: dict[str, Kind] = {}
    for module in (*SHIPPED, *modules):
        try:
            imported = importlib.import_module(module)
        except ImportError as error:
            raise KindError(f"setting kinds.modules: {module} cannot be imported: {error}") from error
        found = collect(imported)
        if not found and not workflow.collect(imported):
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
