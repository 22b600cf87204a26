"""`@workflow`: what kind `variant` runs, by a name that its operator knows; a message can name nothing else."""

from __future__ import annotations

import importlib
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

import anyio
import msgspec
from msgspec import Meta, Struct

from contracts.batch import VariantResult
from workers.kinds.context import JobContext
from workers.kinds.outcomes import Fail
from workers.kinds.shape import KindError, Shape, entry_point

__all__ = ["Workflow", "Workflows", "WorkflowsConfig", "collect", "workflow"]

LOOK_S: Final = 0.1
"""Between two looks at whether an async workflow is to stop."""


class Workflow:
    """A function or class that gives a variant its score."""

    def __init__(self, target: Any, name: str) -> None:
        if not name:
            raise KindError(f"{target.__qualname__}: a workflow needs a name")
        self.target = target
        self.name = name
        entry = entry_point(target, name, is_batch=False)
        shape = Shape(entry, name, is_batch=False)
        self._takes_context = shape.takes_context
        self._is_async = inspect.iscoroutinefunction(entry)
        self._parameters = shape.input_type
        self.is_plain = not (self._takes_context or self._is_async)

    def __repr__(self) -> str:
        return f"Workflow({self.name!r}, {self.target.__module__}:{self.target.__qualname__})"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function or class itself, so that it can be called and tested as if it were not decorated."""
        return self.target(*args, **kwargs)

    def run(self, context: JobContext, parameters: Mapping[str, Any]) -> VariantResult:
        """One variant; blocks. To be called in a thread where no event loop runs: workflows may start their own.

        Raises `Fail` for parameters or a result that do not fit, and whatever the workflow raises.
        """
        try:
            value = msgspec.convert(parameters, self._parameters)
        except msgspec.ValidationError as error:
            raise Fail(f"workflow {self.name}: parameters do not fit: {error}") from error
        instance: Any = self.target() if inspect.isclass(self.target) else None
        function = self.target if instance is None else instance.run
        arguments = (context, value) if self._takes_context else (value,)
        said = anyio.run(_until_cancelled, context, function, arguments) if self._is_async else function(*arguments)
        if isinstance(said, Exception):
            # `Retry` and `Fail` may be returned as well as raised.
            raise said
        return self._result(said if instance is None else _judged(instance, said))

    def _result(self, said: Any) -> VariantResult:
        try:
            return msgspec.convert(said, VariantResult, from_attributes=True)
        except msgspec.ValidationError as error:
            text = f"workflow {self.name} must give score, metrics and output, in a dict or a VariantResult: {error}"
            raise Fail(text) from error


def workflow(name: str) -> Callable[[Any], Workflow]:
    """Make a workflow of a function, or of a class; `name` is what batches and variants call it.

    A function takes the variant's typed parameters, and before them a `JobContext` if it wants one; it gives a dict (or
    a `VariantResult`) with `score`, the greater the better, `metrics` and `output`, each of them optional. A class has
    a method `run` that takes the same and gives the output, and may have `score(output)` and `metrics(output)`.
    """

    def decorate(target: Any) -> Workflow:
        return Workflow(target, name)

    return decorate


class WorkflowsConfig(Struct, frozen=True):
    """Where workflows are looked for."""

    modules: Annotated[list[str], Meta(description="Modules that hold workflows, as setting kinds.modules.")] = []


class Workflows:
    """The workflows that stand in some modules."""

    def __init__(self, config: WorkflowsConfig) -> None:
        self._found: dict[str, Workflow] = {}
        for module in config.modules:
            for found in collect(importlib.import_module(module)):
                known = self._found.setdefault(found.name, found)
                if known is not found:
                    raise KindError(f"workflow {found.name} is declared twice: {known!r} and {found!r}")

    def is_plain(self, name: str) -> bool:
        """Whether it is there, takes no context and is not async: it says nothing before it ends."""
        found = self._found.get(name)
        return found is not None and found.is_plain

    def named(self, name: str) -> Workflow:
        """The workflow of this name; raises `Fail` where there is none."""
        try:
            return self._found[name]
        except KeyError:
            known = ", ".join(sorted(self._found)) or "none"
            text = f"no workflow {name} is registered (known: {known}); name its module in setting kinds.modules"
            raise Fail(text, reason="config") from None


def collect(module: types.ModuleType) -> list[Workflow]:
    """The workflows that stand in a module, in order of their names."""
    found = {id(value): value for value in vars(module).values() if isinstance(value, Workflow)}
    return sorted(found.values(), key=lambda it: it.name)


def _judged(instance: Any, output: Any) -> dict[str, Any]:
    """What a workflow's object says of its output."""
    judged = {name: getattr(instance, name)(output) for name in ("score", "metrics") if hasattr(instance, name)}
    return {"output": output, **judged}


async def _until_cancelled(context: JobContext, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """An async workflow, which is cancelled where a plain one would have to look at `cancelled`."""
    said: Any = Fail("the job was asked to stop")
    async with anyio.create_task_group() as group:

        async def run() -> None:
            nonlocal said
            said = await function(*arguments)
            group.cancel_scope.cancel()

        group.start_soon(run)
        while not context.cancelled:  # noqa: ASYNC110 - it is set from another thread, and by the clock
            await anyio.sleep(LOOK_S)
        group.cancel_scope.cancel()
    return said
