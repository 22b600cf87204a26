"""Batches that cannot be expanded or reduced: they fail by their own fault, and leave no child behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import anyio
import pytest

from contracts.events import Cancelled, Completed, Failed
from tests.runtime.kinds import Group, Puppet, Task, grouping
from tests.runtime.world import World
from workers import Child, ChildEnd, Fail

pytestmark = pytest.mark.anyio


def _raises(group: Group) -> Sequence[Child]:
    raise LookupError("no such variant")


class _NoJson:
    pass


@pytest.mark.parametrize(
    ("expand", "reason", "words"),
    [
        (_raises, "user", "no such variant"),
        (lambda group: [], "user", "no children"),
        (lambda group: None, "user", "not iterable"),
        (lambda group: ["a"], "user", "Child"),
        (lambda group: [Child(key=1, kind="puppet", input=None)], "user", "text key"),  # type: ignore[arg-type]
        (lambda group: [Child(key="a", kind="no.token", input=None)], "user", "token"),
        (lambda group: [_child("a"), _child("b"), _child("a")], "user", "'a' more than once"),
        (lambda group: [_child("a"), Child(key="b", kind="puppet", input=_NoJson())], "user", "child b"),
        (lambda group: [_child("a"), Child(key="b", kind="nobody-has", input=None)], "unknown_kind", "nobody-has"),
        (lambda group: [_child("a"), Child(key="b", kind="puppet", input="x" * 2_000_000)], "too_large", "child b"),
    ],
    ids=["raises", "empty", "nothing", "no child", "number", "no token", "twice", "no JSON", "no kind", "too large"],
)
async def test_an_expansion_that_cannot_be_carried_out_fails_and_leaves_no_child_behind(
    world: World, expand: Callable[[Group], Any], reason: str, words: str
) -> None:
    puppet = Puppet()
    jetray = await world.gateway(puppet.kind, grouping(expand))
    await jetray.submit("group", Group(id="g"))
    end = await jetray.end_of("group", "g")
    assert isinstance(end, Failed)
    assert (end.error.reason, end.attempts) == (reason, 1)
    assert words in end.error.message
    assert [letter.reason for letter in jetray.dead_letters()] == [reason]
    await anyio.sleep(60)
    for child in ("g-a", "g-b"):
        for event in (await jetray.events("puppet", child))[-1:]:
            assert isinstance(event, Cancelled)


@pytest.mark.parametrize(
    ("reduce", "reason", "words"),
    [
        (lambda group, ends: Fail("too few", reason="dependency"), "dependency", "too few"),
        (lambda group, ends: _raise(Fail("none at all")), "user", "none at all"),
        (lambda group, ends: _raise(ZeroDivisionError("by zero")), "user", "by zero"),
        (lambda group, ends: _NoJson(), "user", "_NoJson"),
    ],
    ids=["fails", "raises Fail", "raises", "no JSON"],
)
async def test_a_reduction_that_goes_wrong_fails_the_batch(
    world: World, reduce: Callable[[Group, Sequence[ChildEnd]], Any], reason: str, words: str
) -> None:
    puppet = Puppet()
    puppet.say("g-a", 1)
    jetray = await world.gateway(puppet.kind, grouping(reduce=reduce))
    await jetray.submit("group", Group(id="g", members=["a"]))
    end = await jetray.end_of("group", "g")
    assert isinstance(end, Failed)
    assert end.error.reason == reason
    assert words in end.error.message


async def test_a_large_result_of_a_batch_becomes_an_artifact(world: World) -> None:
    puppet = Puppet()
    puppet.say("g-a", 1)
    jetray = await world.gateway(puppet.kind, grouping(reduce=lambda group, ends: "x" * 300_000))
    await jetray.submit("group", Group(id="g", members=["a"]))
    assert await jetray.result_of("group", "g") == "x" * 300_000
    end = await jetray.end_of("group", "g")
    assert isinstance(end, Completed)
    assert len(bytes(end.result)) < 1_000


def _child(key: str) -> Child:
    return Child(key=key, kind="puppet", input=Task(id=f"g-{key}"))


def _raise(error: Exception) -> Any:
    raise error
