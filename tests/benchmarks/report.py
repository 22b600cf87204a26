"""What was found, as JSON and as tables, with what it was found on."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from infra.bus.embedded import find_binary
from tests.benchmarks.results import Findings, Plan, Target
from tests.benchmarks.stage import ROOT

__all__ = ["about", "document", "show", "write"]

PACKAGES: Final = (
    "jetray",
    "ray",
    "nats-py",
    "uvloop",
    "msgspec",
    "taskiq",
    "taskiq-nats",
    "faststream",
    "celery",
    "redis",
)


def document(plan: Plan, ran_on: Mapping[str, Any], sections: Mapping[str, Findings]) -> dict[str, Any]:
    """All of it; `ran_on` is what `about` said when it began."""
    return {
        "about": {**ran_on, "rounds": plan.rounds, "jobs": plan.jobs, "quick": plan.quick},
        "sections": {name: findings.figures for name, findings in sections.items()},
        "targets": [_target(target) for findings in sections.values() for target in findings.targets],
        "wrong": [what for findings in sections.values() for what in findings.wrong],
    }


def about() -> dict[str, Any]:
    """What it runs on, and what else the machine does just now."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _said("git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "nats_server": _said(find_binary(), "--version"),
        "redis_server": _said("redis-server", "--version"),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
    }


def write(found: Mapping[str, Any], file: Path) -> None:
    """As JSON."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def show(sections: Mapping[str, Findings], console: Console) -> None:
    """A table a section, the targets, and what was wrong."""
    for name, findings in sections.items():
        if findings.table:
            head, *rows = findings.table
            console.print(_table(name, head, rows))
    targets = [target for findings in sections.values() for target in findings.targets]
    if targets:
        rows = [
            (target.what, f"{target.value:g}", f"{'≥' if target.at_least else '≤'} {target.wanted:g}", _word(target))
            for target in targets
        ]
        console.print(_table("targets", ("what", "found", "wanted", ""), rows))
    for findings in sections.values():
        for what in findings.wrong[:20]:
            console.print(f"WRONG: {what}", markup=False)


def _table(title: str, head: tuple[str, ...], rows: list[tuple[str, ...]]) -> Table:
    table = Table(title=title, title_justify="left")
    for index, column in enumerate(head):
        table.add_column(column, justify="right" if index else "left")
    for row in rows:
        table.add_row(*row)
    return table


def _word(target: Target) -> str:
    return "met" if target.met else "MISSED"


def _target(target: Target) -> dict[str, Any]:
    return {
        "what": target.what,
        "value": target.value,
        "at_least" if target.at_least else "at_most": target.wanted,
        "met": target.met,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _said(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _processor() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)
