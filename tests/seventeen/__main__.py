"""`python -m tests.seventeen`: provoke each of the seventeen events, and print what proves it.

Exits 1 where one is missing; the gateway's log is then kept.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

from rich.console import Console

from tests.seventeen.proof import judge, play
from tests.seventeen.table import messages, table

WIDTH: Final = 160
"""Of the table in a log, which has none of its own."""


def main() -> int:
    """See the module's own words."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    folder = Path(tempfile.mkdtemp(prefix="jetray-seventeen-"))
    played = asyncio.run(play(folder, lambda line: console.print(f"[dim]{line}[/dim]")))
    findings = judge(played.evidence)
    for message in messages(findings):
        console.print(message, markup=False, soft_wrap=True)
    console.print(table(findings))
    for why in played.went_wrong:
        console.print(why, style="red", markup=False)
    proven = sum(finding.told is not None for finding in findings)
    console.print(f"{proven} of {len(findings)} are proven")
    if proven < len(findings) or played.went_wrong:
        console.print(f"the gateway's log is in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
