"""Kind `batch`: what it expands into, when its outcome is settled, and what it tells."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import Raw

from contracts.batch import Batch, BatchResult, Best, Files, Totals, Variant
from contracts.codec import Undecodable
from contracts.errors import ErrorInfo
from contracts.events import Completed
from tests.kinds.test_plan import COMMON
from workers.kinds.batch import BatchKind
from workers.kinds.registry import Child, ChildEnd, Fail, load
from workers.kinds.workflow import WorkflowsConfig

KIND = BatchKind(WorkflowsConfig(modules=["tests.kinds.workflows"]))
LIST = [{"name": "a", "parameters": {"x": 1}}, {"name": "b"}]


def batch(**fields: Any) -> Batch:
    given = {"batch_id": "B7", **({} if "kind" in fields else {"workflow": "tests.sum"}), **fields}
    if "matrix" not in fields:
        given.setdefault("variants", LIST)
    return load([])["batch"].spec.decode(msgspec.json.encode(given), foreign=False)


def end(name: str, outcome: Any = "completed", result: Any = None, error: ErrorInfo | None = None) -> ChildEnd:
    body = Raw(msgspec.json.encode(result))
    event = Completed(**COMMON, result=body, artifacts=[], duration_ms=1) if outcome == "completed" else None
    return ChildEnd(
        child=Child(key=name, kind="variant", input=None),
        job_id=f"B7-{name}",
        outcome=outcome,
        event=event,
        error=error,
    )


def reduce(asked: Batch, *ends: ChildEnd) -> BatchResult | Fail:
    return KIND.reduce(asked, [KIND.outline(it) for it in ends])


# --- what it expands into


def test_variants_of_a_workflow() -> None:
    files, inputs = {"include": ["*.csv"]}, {"p.txt": "nats://artifacts/p.txt"}
    first, second = KIND.expand(batch(files=files, inputs=inputs))
    assert (first.key, first.kind) == ("a", "variant")
    assert first.input == Variant(
        workflow="tests.sum", name="a", parameters={"x": 1}, inputs=inputs, files=Files(include=["*.csv"])
    )
    assert (second.key, second.input.parameters) == ("b", {})


def test_variants_of_a_kind_get_their_parameters_as_their_input() -> None:
    assert [*KIND.expand(batch(kind="score"))] == [
        Child(key="a", kind="score", input={"x": 1}),
        Child(key="b", kind="score", input={}),
    ]


def test_a_matrix_is_every_combination_under_names_that_tell() -> None:
    children = KIND.expand(batch(matrix={"prompt": ["kind", "brief"], "depth": [1, 2.5]}))
    assert [child.key for child in children] == [
        "prompt=kind,depth=1",
        "prompt=kind,depth=2.5",
        "prompt=brief,depth=1",
        "prompt=brief,depth=2.5",
    ]
    assert children[1].input.parameters == {"prompt": "kind", "depth": 2.5}


@pytest.mark.parametrize(
    ("matrix", "names"),
    [
        ({"x": [1, "1"]}, ["x=1", 'x="1"']),
        ({"x": [True, "true", 'true"', '"true"']}, ["x=true", 'x="true"', 'x="true\\""', 'x="\\"true\\""']),
        ({"a": ["1,b=2", "1"], "b": ["2", "2,b=2"]}, None),
        ({"x": [None, "null", [1], "[1]", {"a": 1}, '{"a":1}', 1.0, "1.0", 1]}, None),
        ({"x": ["p" * 300, "p" * 301, 1, "1"]}, None),
    ],
)
def test_values_that_read_alike_make_names_that_differ(matrix: dict[str, list[Any]], names: list[str] | None) -> None:
    found = [child.key for child in KIND.expand(batch(matrix=matrix))]
    assert len({*found}) == len(found)
    assert names is None or found == names
    assert found == [child.key for child in KIND.expand(batch(matrix=matrix))]


def test_long_values_make_names_that_fit_and_differ() -> None:
    texts = ["p" * 300 + "a", "p" * 300 + "b"]
    names = [child.key for child in KIND.expand(batch(matrix={"prompt": texts}))]
    assert len({*names}) == 2
    assert all(len(name) <= 256 and name.startswith("prompt=ppp") for name in names)


def test_of_another_kinds_result_the_comparison_shows_what_fits() -> None:
    row = KIND.outline(end("a", result={"score": 9, "metrics": {"m": "text"}, "files": ["a.csv"]}))
    assert (row.score, row.metrics, row.files) == (9.0, {}, Totals())


def test_an_unknown_workflow_fails_the_batch_and_no_variant() -> None:
    with pytest.raises(Fail, match=r"no workflow os\.system is registered") as raised:
        KIND.expand(batch(workflow="os.system"))
    assert raised.value.reason == "config"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"workflow": None}, "give either workflow or kind"),
        ({"workflow": "w", "kind": "k"}, "give either workflow or kind"),
        ({"variants": []}, "give either variants or matrix"),
        ({"variants": LIST, "matrix": {"x": [1]}}, "give either variants or matrix"),
        ({"policy": "threshold"}, "threshold is for policy threshold"),
        ({"threshold": 0.5}, "threshold is for policy threshold"),
        ({"policy": "threshold", "threshold": 0}, "Expected `float` > 0.0"),
        ({"policy": "threshold", "threshold": 1.01}, "Expected `float` <= 1.0"),
        ({"policy": "most"}, "Invalid enum value 'most'"),
        ({"parallelism": 0}, "Expected `int` >= 1"),
        ({"kind": "k", "files": {}}, "inputs and files are for a workflow"),
        ({"matrix": {"x": [1], "y": []}}, "matrix comes to 0 variants"),
        ({"matrix": {"x": [0] * 400, "y": [0] * 400}}, "matrix comes to 160000 variants; it must be 1 to 100000"),
        ({"colour": "red"}, "unknown field `colour`"),
        ({"variants": [{"name": ""}]}, "length >= 1"),
    ],
)
def test_what_does_not_fit_is_named(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(Undecodable, match=text):
        batch(**fields)


# --- when its outcome is settled


def counts(completed: int, failed: int, cancelled: int, refused: int, still: int) -> dict[str, int]:
    return {"completed": completed, "failed": failed, "cancelled": cancelled, "refused": refused, "open": still}


@pytest.mark.parametrize(
    ("policy", "seen", "text"),
    [
        ({"policy": "all"}, counts(0, 9, 0, 0, 1), None),
        ({"policy": "all"}, counts(9, 0, 0, 0, 1), None),
        ({"policy": "fail_fast"}, counts(9, 0, 0, 0, 1), None),
        ({"policy": "fail_fast"}, counts(0, 1, 0, 0, 9), "1 of 10 variants did not complete"),
        ({"policy": "fail_fast"}, counts(0, 0, 1, 0, 9), "1 of 10 variants did not complete"),
        ({"policy": "fail_fast"}, counts(0, 0, 0, 1, 9), "1 of 10 variants did not complete"),
        ({"policy": "threshold", "threshold": 0.7}, counts(6, 3, 0, 0, 1), None),
        ({"policy": "threshold", "threshold": 0.7}, counts(7, 0, 0, 0, 3), "7 of 10 variants have completed"),
        ({"policy": "threshold", "threshold": 0.7}, counts(0, 2, 1, 0, 7), None),
        ({"policy": "threshold", "threshold": 0.7}, counts(0, 2, 1, 1, 6), "4 of 10 variants did not complete"),
        ({"policy": "threshold", "threshold": 0.75}, counts(7, 2, 0, 0, 1), None),
    ],
)
def test_when_the_rest_need_not_run(policy: dict[str, Any], seen: dict[str, int], text: str | None) -> None:
    said = KIND.settled(batch(**policy), seen)
    assert (said is None) if text is None else (said is not None and text in said)


# --- what it tells


def test_the_comparison_has_the_best_first_and_those_without_a_score_last() -> None:
    error = ErrorInfo(reason="user", type="ValueError", message="no")
    result = reduce(
        batch(),
        end("a", result={"score": 1.5, "metrics": {"m": 2}, "files": {"count": 2, "bytes": 10}}),
        end("b", "failed", error=error),
        end("c", result={"score": 3, "files": {"count": 1, "bytes": 5}}),
        end("d", result={"score": 3}),
        end("e", result="any kind's result"),
    )
    assert isinstance(result, BatchResult)
    assert result.counts == {"completed": 4, "failed": 1, "cancelled": 0, "refused": 0, "total": 5}
    assert result.best == Best(name="c", score=3.0)
    assert [(row.name, row.score) for row in result.comparison] == [
        ("c", 3.0),
        ("d", 3.0),
        ("a", 1.5),
        ("b", None),
        ("e", None),
    ]
    assert (result.comparison[2].metrics, result.comparison[3].error) == ({"m": 2.0}, error)
    assert result.files == Totals(count=3, bytes=15)


def test_by_all_it_fails_only_if_none_completed() -> None:
    error = ErrorInfo(reason="user", type="ValueError", message="no")
    assert isinstance(reduce(batch(), end("a"), end("b", "failed", error=error)), BatchResult)
    failed = reduce(batch(), end("a", "cancelled"), end("b", "failed", error=error))
    assert isinstance(failed, Fail)
    assert (failed.reason, str(failed)) == (
        "dependency",
        "b failed (user: no); 1 failed, 1 cancelled; policy all needs 1 of 2",
    )


def test_a_batch_whose_variants_were_all_cancelled_says_so() -> None:
    failed = reduce(batch(), end("a", "cancelled"), end("b", "cancelled"))
    assert isinstance(failed, Fail)
    assert failed.reason == "cancelled_child"


@pytest.mark.parametrize(
    ("policy", "completed", "fails"),
    [
        ({"policy": "fail_fast"}, 10, False),
        ({"policy": "fail_fast"}, 9, True),
        ({"policy": "threshold", "threshold": 0.7}, 7, False),
        ({"policy": "threshold", "threshold": 0.7}, 6, True),
    ],
)
def test_the_other_policies(policy: dict[str, Any], completed: int, fails: bool) -> None:
    ends = [end(str(it), "completed" if it < completed else "failed") for it in range(10)]
    assert isinstance(reduce(batch(**policy), *ends), Fail) == fails
