"""Medians, ratios, targets, and what is told of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from tests.benchmarks import report
from tests.benchmarks.backlog import first_completed
from tests.benchmarks.contenders import jetray
from tests.benchmarks.contenders.base import Contender, Round
from tests.benchmarks.overload import refusals
from tests.benchmarks.profile import shares
from tests.benchmarks.results import Findings, Plan, Target, median, percentile
from tests.benchmarks.test_verify import OWED, whole
from tests.benchmarks.throughput import CONTENDERS, compare, missing

FLOORS = {"raw_ray": 3.0, "nats_alone": 0.27, "taskiq_nats": 2.2, "faststream": 1.7, "celery_redis": 10.0}


def rounds(*rates: float) -> list[Round]:
    return [Round(1_000, rate, []) for rate in rates]


def test_one_odd_round_does_not_move_a_median():
    assert median([100.0, 5.0, 104.0]) == 100.0
    assert median([100.04, 100.02]) == 100.0
    assert median([1.2346], 3) == 1.235


@pytest.mark.parametrize(("percent", "value"), [(0, 1), (50, 50), (99, 99), (100, 100)])
def test_percentiles(percent, value):
    assert percentile(list(range(100, 0, -1)), percent) == value


def test_percentiles_of_one():
    assert percentile([7.0], 50) == percentile([7.0], 99) == 7.0


def test_a_target_is_met_at_its_bound():
    assert Target("rate", 3.0, 3.0).met
    assert not Target("rate", 2.99, 3.0).met
    assert Target("memory", 1.1, 1.1, at_least=False).met
    assert not Target("memory", 1.11, 1.1, at_least=False).met


def test_floors_are_those_that_were_promised():
    assert {each.name: each.floor for each in CONTENDERS if each.floor is not None} == FLOORS


def test_ratios_are_of_medians():
    found = compare({"jetray": rounds(8_000, 9_000, 100), "raw_ray": rounds(2_000, 2_500, 2_500)}, {})
    assert found.figures["jetray"]["per_second"] == 8_000
    assert found.figures["raw_ray"]["jetray_ratio"] == 3.2
    assert found.figures["raw_ray"]["rounds_per_second"] == [2_000, 2_500, 2_500]
    assert [(target.value, target.wanted, target.met) for target in found.targets] == [(3.2, 3.0, True)]


def test_a_missed_floor_is_shown_as_missed():
    found = compare({"jetray": rounds(1_000), "faststream": rounds(1_000)}, {})
    assert not found.targets[0].met
    assert found.table[-1] == ("FastStream", "1,000", "1,000", "1", "1.7", "MISSED")


def test_who_is_absent_is_skipped_with_a_word():
    found = compare({"jetray": rounds(1_000)}, {"celery_redis": "no redis-server here"})
    assert found.figures["celery_redis"] == {"absent": "no redis-server here"}
    assert "no redis-server here" in found.table[-1]
    assert not found.targets


def test_packages_that_are_not_installed_are_named():
    ghost = Contender("ghost", "Ghost", jetray.play, package="no_such_package")
    assert missing(ghost) == "no_such_package is not installed; `make bench` does it"
    assert missing(CONTENDERS[0]) == ""


def test_without_jetray_there_are_no_ratios():
    found = compare({"raw_ray": rounds(2_000)}, {})
    assert "jetray_ratio" not in found.figures["raw_ray"]
    assert not found.targets


def test_a_report_has_everything(tmp_path: Path):
    sections = {
        "throughput": compare({"jetray": rounds(1_000), "raw_ray": rounds(2_000)}, {}),
        "long": Findings(wrong=["long, round 1: job job-7: its log has 1 events"]),
    }
    document = report.document(Plan(rounds=3, jobs=20_000, quick=False, say=print), report.about(), sections)
    report.write(document, tmp_path / "new" / "bench.json")
    read = json.loads((tmp_path / "new" / "bench.json").read_text(encoding="utf-8"))
    assert read["sections"]["throughput"]["raw_ray"]["jetray_ratio"] == 0.5
    assert read["targets"] == [{"what": "throughput, Jetray ÷ raw Ray", "value": 0.5, "at_least": 3.0, "met": False}]
    assert read["wrong"] == ["long, round 1: job job-7: its log has 1 events"]
    assert read["about"]["rounds"] == 3
    assert read["about"]["packages"]["ray"]
    assert read["about"]["nats_server"].startswith("nats-server")


def test_tables_name_what_was_missed_and_what_was_wrong(capsys: pytest.CaptureFixture[str]):
    found = compare({"jetray": rounds(1_000), "raw_ray": rounds(2_000)}, {})
    found.wrong.append("raw Ray, round 1: job job-3: 0 results")
    report.show({"throughput": found}, Console(width=120))
    shown = capsys.readouterr().out
    assert "MISSED" in shown
    assert "≥ 3" in shown
    assert "WRONG: raw Ray, round 1: job job-3: 0 results" in shown


def test_only_the_jobs_that_completed_first_count():
    stored = whole()
    # The second job completes last.
    stored.append(stored.pop(3))
    logs, ended = first_completed(stored, 2)
    assert {message.subject.rpartition(".")[2] for message in logs} == {OWED[0].id, OWED[2].id}
    assert ended == stored[-2].time.timestamp()


def test_only_a_full_queue_may_refuse():
    assert refusals({"10077": 5_000}) == []
    assert refusals({"10077": 5, "status 503": 2}) == ["2 publishes were refused with status 503"]


def test_shares_of_samples():
    folded = [
        "main (app.py:10);work (app.py:20) 6",
        "main (app.py:11);work (app.py:25);work (app.py:21);parse (lib.py:3) 3",
        "main (app.py:12) 1",
        "no samples here",
    ]
    found = {share.function: share for share in shares(folded)}
    assert found["work (app.py)"].own == pytest.approx(0.6)
    assert found["work (app.py)"].total == pytest.approx(0.9)
    assert found["main (app.py)"].total == pytest.approx(1.0)
    assert shares(folded)[0].function == "work (app.py)"
