"""What a seed's history is: jobs, commands, and the faults that will strike. All of it follows from the seed."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from contracts import subjects
from contracts.headers import DEADLINE, PARENT
from tests.simulation.faults import FAULTS, STEPS, Fault, FaultKind, Side, can_strike, sides_of
from tests.simulation.flavours import Flavour, flavour_of
from tests.simulation.kinds import Group, Member, Task
from tests.simulation.scenes import SCENES, Sending

__all__ = ["GATEWAYS", "LEAST_FAULTS", "LEAST_JOBS", "RARE", "History", "Sending", "history"]

GATEWAYS: Final = 2
LEAST_JOBS: Final = 20
LEAST_FAULTS: Final = 5
SPREAD_S: Final = 8.0
"""Jobs, commands and faults come within so many seconds."""
ENDINGS: Final = (*["returns"] * 5, "fails once", "fails", "fails until replayed", "lost once", "lost")
RARE: Final = (
    "ack",
    "nak",
    "answer",
    "cancelled",
    "child",
    "command ack",
    "dlq",
    "failed",
    "notice",
    "probe",
    "requeued",
)
"""Steps that a history may pass so seldom that a fault cannot wait for the third time."""

NO_HEADERS: Final[Mapping[str, str]] = {}
WEIGHTS: Final = {"crash": 8, "lost delivery": 1, "deletion": 1}
"""3 where nothing is said. Crashes tell most, two strike at the pull alone, and deletions hide what follows."""
LATE_S: Final = (2.0, 4.0, 8.0)
"""Deadlines that some messages bring along."""


@dataclass(frozen=True, slots=True)
class History:
    """Everything that is to happen from outside."""

    seed: int
    sendings: list[Sending]
    faults: list[Fault]
    jobs: list[tuple[str, str]]
    """Kind and id of the jobs that commands may be about."""
    flavour: Flavour


def history(seed: int, rng: random.Random) -> History:
    """The history of a seed."""
    flavour = flavour_of(seed)
    tasks = [_task(rng, number, flavour) for number in range(rng.randint(14, 18))]
    groups = [_group(rng, number, flavour) for number in range(rng.randint(2, 3) + flavour.groups)]
    sendings = [_job(rng, kind, task, _deadline(rng, 0.1)) for kind, task in tasks]
    opened = [_job(rng, "group", group, _deadline(rng, 0.2)) for group in groups]
    sendings += opened
    sendings += _twins(rng, tasks, groups, flavour)
    sendings += [_garbage(rng) for _ in range(rng.randint(1, 2))]
    jobs = [(kind, task.id) for kind, task in tasks]
    jobs += [(member.kind, f"{group.id}-{member.key}") for group in groups for member in group.members]
    jobs += [("group", group.id) for group in groups]
    sendings += [_command(rng, jobs) for _ in range(rng.randint(1, 3))]
    sendings += _cancels(rng, groups, opened, flavour)
    faults = [_fault(rng, flavour) for _ in range(rng.randint(LEAST_FAULTS + 1, LEAST_FAULTS + 5))]
    for where in rng.sample(flavour.focus, 3):
        fault = _fault_at(rng, *where)
        faults.append(replace(fault, armed_s=fault.armed_s + flavour.focus_from_s))
    sendings += _strangers(rng, groups, opened, flavour)
    if flavour.scenes:
        scene = SCENES[rng.choice(flavour.scenes)]()
        sendings += scene.sendings
        faults = [replace(fault, armed_s=fault.armed_s + scene.alone_s) for fault in faults] + scene.faults
    if flavour.burst_s:
        sendings = [replace(it, at=math.ceil(it.at / flavour.burst_s) * flavour.burst_s) for it in sendings]
    sendings.sort(key=lambda sending: sending.at)
    return History(seed, sendings, faults, jobs, flavour)


def _task(rng: random.Random, number: int, flavour: Flavour) -> tuple[str, Task]:
    kind = rng.choice(flavour.kinds)
    endings = (*ENDINGS, *["fails once"] * flavour.failing_once)
    return kind, Task(id=f"j{number}", does=rng.choice(endings), takes_s=_takes_s(rng), value=number)


def _takes_s(rng: random.Random) -> float:
    return rng.choice((0.0, 0.0, 0.1, 0.5, 2.0, 8.0)) * rng.uniform(0.5, 1.5)


def _group(rng: random.Random, number: int, flavour: Flavour) -> Group:
    members = [
        Member(key=f"c{index}", kind=rng.choice(("short", "talk")), does=rng.choice(ENDINGS), takes_s=_takes_s(rng) / 2)
        for index in range(rng.randint(2, 5))
    ]
    does = "fails at first" if rng.random() < flavour.failing else "returns"
    most = rng.randint(1, 3) if flavour.choosy and rng.random() < flavour.choosy else None
    enough = rng.randint(1, 3) if flavour.choosy and rng.random() < flavour.choosy else None
    return Group(id=f"g{number}", members=members, does=does, most=most, enough=enough)


def _deadline(rng: random.Random, often: float) -> Mapping[str, str]:
    return {DEADLINE: f"{rng.choice(LATE_S)}"} if rng.random() < often else NO_HEADERS


def _job(
    rng: random.Random, kind: str, value: Any, headers: Mapping[str, str] = NO_HEADERS, until_s: float = SPREAD_S
) -> Sending:
    subject = subjects.job(kind, high=rng.random() < 0.2)
    return Sending(rng.uniform(0, until_s), subject, msgspec.json.encode(value), headers)


def _twins(rng: random.Random, tasks: list[tuple[str, Task]], groups: list[Group], flavour: Flavour) -> list[Sending]:
    """The same jobs again, others under their ids, and strangers under the ids of children."""
    found = []
    for kind, task in rng.sample(tasks, flavour.twins):
        found += [_job(rng, kind, task, until_s=flavour.twins_until_s) for _ in range(rng.randint(1, 2))]
    for kind, task in rng.sample(tasks, 2):
        found.append(_job(rng, kind, msgspec.structs.replace(task, value=-1)))
    found.append(_job(rng, "group", rng.choice(groups)))
    group = rng.choice(groups)
    for member in rng.sample(group.members, rng.randint(0, 2)):
        child = Task(id=f"{group.id}-{member.key}", does=member.does, takes_s=member.takes_s)
        headers: Mapping[str, str] = NO_HEADERS
        match rng.randrange(4):
            case 0:
                child = msgspec.structs.replace(child, value=-1)
            case 1 | 2:
                # What names the batch as its parent is the batch's own, with the very input that it gives.
                headers = {PARENT: f"group.{group.id}"}
        found.append(_job(rng, member.kind, child, headers))
    return found


def _garbage(rng: random.Random) -> Sending:
    body = rng.choice((b"{", b'{"id":"j0","does":7}', b"\xff\xfe", b'{"takes_s":1}'))
    return Sending(rng.uniform(0, SPREAD_S), subjects.job(rng.choice(("short", "talk", "group"))), body)


def _command(rng: random.Random, jobs: list[tuple[str, str]]) -> Sending:
    subject = rng.choice(
        (
            subjects.cancel(*rng.choice(jobs)),
            subjects.cancel(*rng.choice(jobs)),
            subjects.cancel("unknown", "j0"),
            subjects.replay(rng.randint(1, 9)),
            "control.cancel.short",
        )
    )
    return Sending(rng.uniform(0, SPREAD_S), subject)


def _cancels(rng: random.Random, groups: list[Group], opened: list[Sending], flavour: Flavour) -> list[Sending]:
    """Of some batches, soon after they are published."""
    return [
        Sending(sending.at + rng.uniform(0, 4), subjects.cancel("group", group.id))
        for group, sending in zip(groups, opened, strict=True)
        if rng.random() < flavour.cancelled
    ]


def _strangers(rng: random.Random, groups: list[Group], opened: list[Sending], flavour: Flavour) -> list[Sending]:
    """Under ids of children of some batches, just before these are published: they will be refused."""
    found = []
    for group, sending in zip(groups, opened, strict=True):
        if rng.random() < flavour.strangers:
            member = rng.choice(group.members)
            body = msgspec.json.encode(Task(id=f"{group.id}-{member.key}", value=-1))
            found.append(Sending(max(0.0, sending.at - 0.1), subjects.job(member.kind), body))
    return found


def _fault(rng: random.Random, flavour: Flavour) -> Fault:
    weights = {**WEIGHTS, "duplicate": flavour.duplicates}
    kind: FaultKind = rng.choices(FAULTS, [weights.get(kind, 3) for kind in FAULTS])[0]
    places: list[tuple[str, Side]] = [
        (step, side) for step in STEPS for side in sides_of(step) if can_strike(kind, step, side)
    ]
    return _fault_at(rng, kind, *rng.choice(places))


def _fault_at(rng: random.Random, kind: FaultKind, step: str, side: Side) -> Fault:
    count = rng.randint(1, 2 if step in RARE else 5)
    # About as often shorter than the lease as longer.
    lasts_s = rng.choice((rng.uniform(0.01, 0.5), rng.uniform(0.5, 5), rng.uniform(5, 15)))
    return Fault(kind, step, side, count, rng.uniform(0, SPREAD_S), lasts_s, chases=rng.random() < 0.4)
