"""The result, for eyes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
from rich.table import Table
from rich.text import Text

from tests.seventeen.proof import Finding

__all__ = ["messages", "table"]


def table(findings: Sequence[Finding]) -> Table:
    """A row for each event: theirs, what was seen, the message, and what in it proves it."""
    shown = Table(title="seventeen events", title_justify="left")
    for column in ("theirs", "seen on", "message", "proof"):
        shown.add_column(column, overflow="fold")
    for finding in findings:
        shown.add_row(finding.row.theirs, *_seen(finding))
    return shown


def messages(findings: Sequence[Finding]) -> Iterator[str]:
    """The messages that prove the events, each whole: the server that held them is gone."""
    for finding in findings:
        if finding.told is not None:
            yield f"{finding.told.subject} {msgspec.json.encode(finding.told.body).decode()}"


def _seen(finding: Finding) -> tuple[Text, Text, Text]:
    if finding.told is None:
        why = f"none of {finding.seen} messages proves it" if finding.seen else "never said"
        return Text(finding.row.event), Text("-"), Text(why, style="red")
    proof = "  ".join(f"{name} {_short(value)}" for name, value in finding.proof.items())
    return Text(finding.told.subject), Text(finding.told.id), Text(proof, style="green")


def _short(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
