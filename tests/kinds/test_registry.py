"""`@job`, `@batch` and `load`: what a kind is found to be, and what is refused."""

from __future__ import annotations

import sys
import types
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import msgspec
import pytest
from msgspec import Struct

from workers import Child, ChildEnd, Fail, JobContext, Retry, batch, job
from workers.kinds.registry import Kind, KindError, collect, load


class In(Struct, frozen=True):
    id: str
    size: int = 1
    other: str = msgspec.field(name="renamed", default="")


class Out(Struct, frozen=True):
    score: float


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    limit: int = 3


class Opaque:
    """Nothing that JSON could hold."""


def short(value: In) -> Out:
    """Scores.

    By size.
    """
    return Out(float(value.size))


async def with_context(ctx: JobContext, value: In) -> Out | Retry | Fail:
    return Out(1.0)


def kind_of(target: Any, name: str = "k", **options: Any) -> Kind:
    return job(name, **options)(target)


# --- what a kind is found to be


def test_a_sync_function_is_a_short_kind():
    kind = kind_of(short, "score", id_field="id", not_identity=["renamed"], profile="big", deadline=5.0, max_attempts=2)
    assert (kind.takes_context, kind.is_async, kind.exclusive, kind.is_batch) == (False, False, True, False)
    assert (kind.input_type, kind.result_type, kind.config_type) == (In, Out, None)
    assert (kind.profile, kind.deadline, kind.max_attempts, kind.version) == ("big", 5.0, 2, "1")
    assert kind.doc == "Scores.\n\nBy size."
    assert kind.spec.id_field == "id"
    assert kind.spec.not_identity == {"renamed"}
    assert repr(kind).startswith("Kind('score', ")


def test_an_async_function_shares_its_actor_and_its_union_is_no_result():
    kind = kind_of(with_context)
    assert (kind.takes_context, kind.is_async, kind.exclusive) == (True, True, False)
    assert kind.result_type is Out


def test_a_context_is_known_by_its_type_or_by_its_name():
    def typed(context: JobContext, value: int) -> int:
        return value

    def named(ctx: Any, value: int) -> int:
        return value

    assert kind_of(typed).takes_context
    assert kind_of(named).takes_context


def test_a_decorated_function_can_still_be_called():
    assert kind_of(short)(In("a", 4)) == Out(4.0)


def test_a_class_is_built_with_its_settings():
    @job("k")
    class Limited:
        def __init__(self, settings: Settings) -> None:
            self.limit = settings.limit

        def run(self, value: In) -> int:
            return value.size * self.limit

    kind = cast(Kind, Limited)
    assert kind.config_type is Settings
    assert kind.build(None)(In("a", 2)) == 6
    assert kind.build(msgspec.Raw(b'{"limit":5}'))(In("a", 2)) == 10
    with pytest.raises(KindError, match=r"kind k: its settings do not fit: .*\$\.limit"):
        kind.build(msgspec.Raw(b'{"limit":"x"}'))
    with pytest.raises(KindError, match=r"kind k: its settings do not fit: .*unknown field `limt`"):
        kind.build(msgspec.Raw(b'{"limt":1}'))


def test_inherited_settings_are_settings():
    class Base:
        def __init__(self, settings: Settings) -> None:
            self.limit = settings.limit

    @job("k")
    class Derived(Base):
        def run(self, value: In) -> int:
            return self.limit

    assert cast(Kind, Derived).build(None)(In("a")) == 3


def test_a_class_without_settings_is_built_without():
    @job("k")
    class Plain:
        def run(self, ctx: JobContext, value: In) -> None:
            return None

    kind = cast(Kind, Plain)
    assert kind.config_type is None
    assert kind.takes_context
    assert kind.result_type is type(None)
    assert kind.build(None)(None, In("a")) is None


def test_a_batch_takes_its_input_from_expand_and_its_result_from_reduce():
    @batch("many", id_field="id")
    class Many:
        def expand(self, value: In) -> Sequence[Child]:
            return [Child(key="1", kind="k", input=value)]

        def reduce(self, value: In, ends: Sequence[ChildEnd]) -> Out | Fail:
            return Out(0.0)

    kind = cast(Kind, Many)
    assert kind.is_batch
    assert (kind.input_type, kind.result_type) == (In, Out)
    assert kind.instance(None).expand(In("a"))[0].key == "1"


# --- what is refused


@pytest.mark.parametrize("name", ["", "a.b", "a b", "x" * 129, "score-high"])
def test_names_that_cannot_be_a_subject(name: str):
    with pytest.raises(KindError, match=r"must be a token .* must not end in -high"):
        kind_of(short, name)


def nothing() -> int:
    return 1


def two(a: In, b: In) -> int:
    return 1


def late(value: In, ctx: JobContext) -> int:
    return 1


def twice(ctx: JobContext, more: JobContext, value: In) -> int:
    return 1


def only_context(ctx: JobContext) -> int:
    return 1


def starred(*values: In) -> int:
    return 1


def by_name(*, value: In) -> int:
    return 1


@pytest.mark.parametrize("target", [nothing, two, late, twice, only_context, starred, by_name])
def test_signatures_that_no_call_fits(target: Any):
    with pytest.raises(KindError, match="kind k: must take its input, and before it at most a JobContext"):
        kind_of(target)


def untyped(value) -> int:
    return 1


def no_result(value: In):
    return 1


def opaque_input(value: Opaque) -> int:
    return 1


def opaque_result(value: In) -> Opaque:
    return Opaque()


def hidden_opaque(value: In) -> dict[str, list[Opaque]]:
    return {}


def two_structs(value: In | Out) -> int:
    return 1


def stream(value: In) -> AsyncIterator[int]:
    raise NotImplementedError


def only_fails(value: In) -> Fail:
    return Fail("no")


def only_ends_badly(value: In) -> Fail | Retry:
    return Fail("no")


def unimportable(value: Missing) -> int:  # type: ignore[name-defined]  # noqa: F821
    return 1


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (untyped, "kind k: parameter value has no type"),
        (no_result, "kind k: its result has no type; annotate what it returns"),
        (opaque_input, "kind k: its input type does not fit JSON"),
        (opaque_result, "kind k: its result type does not fit JSON"),
        (hidden_opaque, "kind k: its result type does not fit JSON"),
        (two_structs, "kind k: its input type does not fit JSON"),
        (stream, "kind k: its result type does not fit JSON"),
        (only_fails, "kind k: its result type names no result beside Retry and Fail"),
        (only_ends_badly, "kind k: its result type names no result beside Retry and Fail"),
        (unimportable, "kind k: a type in its signature is not importable at run time: .*Missing"),
    ],
)
def test_types_that_do_not_do(target: Any, words: str):
    with pytest.raises(KindError, match=words):
        kind_of(target)


class NoFields(Struct, frozen=True):
    pass


def empty_input(value: NoFields) -> int:
    return 1


def plain_input(value: dict[str, int]) -> int:
    return 1


def test_an_id_field_must_be_a_field():
    for target in (short, empty_input):
        with pytest.raises(KindError, match="kind k: id_field 'task' is no field of its input"):
            kind_of(target, id_field="task")
    assert kind_of(plain_input, id_field="task").id_field == "task"


def test_what_is_not_identity_must_be_a_field():
    with pytest.raises(KindError, match="kind k: not_identity 'other' is no field of its input"):
        kind_of(short, not_identity=["other"])


def test_classes_need_their_methods():
    class Runless:
        pass

    class Reduceless:
        def expand(self, value: In) -> Sequence[Child]:
            return []

    class Asynchronous:
        async def expand(self, value: In) -> Sequence[Child]:
            return []

        def reduce(self, value: In, ends: Sequence[ChildEnd]) -> int:
            return 1

    class WithContext:
        def expand(self, ctx: JobContext, value: In) -> Sequence[Child]:
            return []

        def reduce(self, value: In, ends: Sequence[ChildEnd]) -> int:
            return 1

    with pytest.raises(KindError, match=r"kind k: .*Runless needs a method run"):
        kind_of(Runless)
    with pytest.raises(KindError, match=r"kind k: .*Reduceless needs a method reduce"):
        batch("k")(Reduceless)
    with pytest.raises(KindError, match="kind k: expand must not be async"):
        batch("k")(Asynchronous)
    with pytest.raises(KindError, match="kind k: must take its input"):
        batch("k")(WithContext)


def test_settings_must_be_one_typed_parameter_that_json_can_hold():
    class Two:
        def __init__(self, a: Settings, b: Settings) -> None: ...

        def run(self, value: In) -> int:
            return 1

    class Untyped:
        def __init__(self, settings) -> None: ...

        def run(self, value: In) -> int:
            return 1

    class Unfit:
        def __init__(self, settings: Opaque) -> None: ...

        def run(self, value: In) -> int:
            return 1

    for target in (Two, Untyped):
        with pytest.raises(KindError, match=r"__init__ may take one typed parameter: its settings"):
            kind_of(target)
    with pytest.raises(KindError, match=r"Unfit.__init__: the type of its settings does not fit JSON"):
        kind_of(Unfit)


# --- load


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch):
    def make(name: str, **attributes: Any) -> str:
        made = types.ModuleType(name)
        vars(made).update(attributes)
        monkeypatch.setitem(sys.modules, name, made)
        return name

    return make


def test_kinds_that_ship_are_always_there():
    assert set(load([])) == {"batch", "deliberation", "plan", "variant"}


def test_a_module_brings_its_kinds(module: Any):
    one, two_ = kind_of(short, "b"), kind_of(short, "a")
    name = module("bringing", x=one, again=one, y=two_, z=short)
    assert [kind.name for kind in collect(sys.modules[name])] == ["a", "b"]
    assert set(load([name])) == {"batch", "deliberation", "plan", "variant", "a", "b"}
    assert load([name, name])["b"] is one


def test_modules_that_cannot_be_loaded(module: Any):
    with pytest.raises(KindError, match=r"setting kinds.modules: no_such_module cannot be imported: No module named"):
        load(["no_such_module"])
    with pytest.raises(KindError, match=r"setting kinds.modules: bare holds no kind; decorate a function with @job"):
        load([module("bare", f=short)])


def test_a_name_is_one_kind(module: Any):
    with pytest.raises(KindError, match="kind k is declared twice: Kind"):
        load([module("first", k=kind_of(short)), module("second", k=kind_of(short))])
    with pytest.raises(KindError, match="kind plan is declared twice"):
        load([module("third", plan=kind_of(short, "plan"))])


# --- options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"deadline": 0}, "kind k: deadline must be a number of seconds above 0, not 0"),
        ({"deadline": float("nan")}, "kind k: deadline must be a number of seconds above 0, not nan"),
        ({"attempt_deadline": -1}, "kind k: attempt_deadline must be a number of seconds above 0, not -1"),
        ({"attempt_deadline": "5"}, "kind k: attempt_deadline must be a number of seconds above 0, not '5'"),
        ({"retry_base": float("inf")}, "kind k: retry_base must be a number of seconds above 0, not inf"),
        ({"retry_cap": True}, "kind k: retry_cap must be a number of seconds above 0, not True"),
        ({"max_attempts": 0}, "kind k: max_attempts must be a whole number, 1 or more, not 0"),
        ({"max_attempts": 2.0}, "kind k: max_attempts must be a whole number, 1 or more, not 2.0"),
        ({"max_lost": -1}, "kind k: max_lost must be a whole number, 0 or more, not -1"),
        ({"no_retry": 3}, "kind k: no_retry takes exception classes, as in (ValueError, KeyError), not 3"),
        ({"no_retry": ("x",)}, "kind k: no_retry takes exception classes, as in (ValueError, KeyError), not 'x'"),
        (
            {"retry_on": int},
            "kind k: retry_on takes exception classes, as in (ValueError, KeyError), not <class 'int'>",
        ),
    ],
)
def test_options_that_say_nothing(options: dict[str, Any], words: str):
    with pytest.raises(KindError) as refused:
        job("k", **options)(short)
    assert str(refused.value) == words


def test_a_batch_has_budgets_and_delays_of_its_own():
    class Many:
        def expand(self, value: In) -> Sequence[Child]:
            return []

        def reduce(self, value: In, ends: Sequence[ChildEnd]) -> Out:
            raise AssertionError

    kind = batch("many", max_attempts=2, max_lost=0, retry_base=5, retry_cap=50)(Many)
    assert (kind.max_attempts, kind.max_lost, kind.retry_base, kind.retry_cap) == (2, 0, 5, 50)
