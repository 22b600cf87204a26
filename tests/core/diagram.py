"""`python -m tests.core.diagram > docs/lifecycle.md`: the state diagram of a job, made of the code's own tables."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import get_args

from workers.core import job as core
from workers.core.job import Phase
from workers.core.lifecycle import TABLE
from workers.core.outcomes import OUTCOMES, Outcome

__all__ = ["document"]

HEAD = """\
# The life of a job in a gateway's hands

<!-- Made of `workers.core.lifecycle.TABLE` and `workers.core.outcomes.OUTCOMES` by `make diagram`: change those. -->

From the message in hand to the last word on its delivery, a job is in exactly one phase. Whatever happens to it is a
*stimulus*; `decide(job, stimulus)` gives its next phase and *commands*, and whoever carries a command out answers with
the next stimulus. A stimulus that is not in a phase's table cannot happen there: it raises `Illegal` and changes
nothing.
"""
WORD = re.compile(r"(?<=.)(?=[A-Z])")


def document() -> str:
    """docs/lifecycle.md."""
    parts = [HEAD, _phases(), _picture(), _tables(), _words("Stimuli", core.Stimulus), _words("Commands", core.Command)]
    return "\n".join(parts)


def _phases() -> str:
    """As the docstring of `workers.core.job` tells them."""
    told = dict(re.findall(r"^    ([A-Z]+) +(.+)$", inspect.getdoc(core) or "", re.MULTILINE))
    return "\n".join(["| phase | |", "|---|---|", *(f"| {phase.value} | {told[phase.name]} |" for phase in Phase), ""])


def _picture() -> str:
    edges: dict[tuple[Phase, Phase], list[str]] = {}
    for (phase, stimulus), outcomes in _rows():
        for goal in {goal for goal, _ in outcomes}:
            edges.setdefault((phase, goal), []).append(_name(stimulus))
    order = list(Phase)
    lines = [
        f"    {phase.value} --> {goal.value}: {'<br/>'.join(names)}"
        for (phase, goal), names in sorted(edges.items(), key=lambda edge: tuple(map(order.index, edge[0])))
    ]
    ends = [phase for phase in Phase if not any(start is phase for start, _ in edges)]
    begin, *end = [f"    [*] --> {order[0].value}", *(f"    {phase.value} --> [*]" for phase in ends)]
    return "\n".join(["```mermaid", "stateDiagram-v2", begin, *lines, *end, "```", ""])


def _tables() -> str:
    lines = []
    for phase in Phase:
        rows = [(stimulus, outcomes) for (start, stimulus), outcomes in _rows() if start is phase]
        if rows:
            lines += [f"## {phase.value.capitalize()}", "", "| stimulus | next phase | commands |", "|---|---|---|"]
            lines += [line for stimulus, outcomes in rows for line in _table_rows(stimulus, outcomes)]
            lines.append("")
    return "\n".join(lines)


def _table_rows(stimulus: type, outcomes: set[Outcome]) -> Iterator[str]:
    name = _name(stimulus)
    for goal, commands in sorted(outcomes, key=_place):
        yield f"| {name} | {goal.value} | {', then '.join(map(_name, commands)) or 'none'} |"
        name = ""


def _place(outcome: Outcome) -> tuple[int, list[str]]:
    goal, commands = outcome
    return list(Phase).index(goal), [_name(command) for command in commands]


def _words(title: str, union: object) -> str:
    rows = [f"| {_name(one)} | {' '.join((inspect.getdoc(one) or '').split())} |" for one in get_args(union)]
    return "\n".join([f"## {title}", "", "| | |", "|---|---|", *rows, ""])


def _rows() -> Iterator[tuple[tuple[Phase, type], set[Outcome]]]:
    """The table of transitions, in its order, with what each may come to."""
    return ((key, OUTCOMES[key]) for key in TABLE)


def _name(of: type) -> str:
    """`LeaseLost` is `lease lost`."""
    return WORD.sub(" ", of.__name__).lower()


if __name__ == "__main__":
    print(document(), end="")
