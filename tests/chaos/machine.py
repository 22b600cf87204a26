"""Which process of this machine is what, from `/proc`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from msgspec import Struct

__all__ = ["Role", "Seen", "descendants", "everything", "find"]

Role = Literal["actor", "raylet", "gcs"]


class Seen(Struct, frozen=True):
    """A process. Its id may be given away again; with the time of its start it is itself."""

    pid: int
    born: int
    """In the kernel's ticks since it started."""
    parent: int = 0
    name: str = ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Seen) and (self.pid, self.born) == (other.pid, other.born)

    def __hash__(self) -> int:
        return hash((self.pid, self.born))


def everything() -> set[Seen]:
    """Every process that runs; zombies do not."""
    return {seen for entry in Path("/proc").iterdir() if entry.name.isdigit() and (seen := _look(entry)) is not None}


def descendants(roots: Iterable[int], there: Iterable[Seen]) -> set[int]:
    """Every process below `roots`, without them."""
    children: dict[int, list[int]] = {}
    for seen in there:
        children.setdefault(seen.parent, []).append(seen.pid)
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        for pid in children.get(waiting.pop(), ()):
            if pid not in found:
                found.add(pid)
                waiting.append(pid)
    return found


def find(role: Role, among: Iterable[Seen]) -> list[Seen]:
    """Those of that role, in order of their ids."""
    return sorted((seen for seen in among if _role(seen.name) == role), key=lambda seen: seen.pid)


def _role(name: str) -> Role | None:
    if name.startswith("ray::JobActor") or "infra.pool.child" in name:
        return "actor"
    program = name.partition(" ")[0]
    if program.endswith("/raylet/raylet"):
        return "raylet"
    if program.endswith("/gcs_server"):
        return "gcs"
    return None


def _look(entry: Path) -> Seen | None:
    try:
        stat = (entry / "stat").read_text(encoding="utf-8", errors="replace")
        name = (entry / "cmdline").read_text(encoding="utf-8", errors="replace").replace("\0", " ").strip()
    except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
        return None
    # The program's name stands in brackets, and may hold anything.
    fields = stat[stat.rindex(")") + 2 :].split()
    if fields[0] in "ZX":
        return None
    return Seen(pid=int(entry.name), born=int(fields[19]), parent=int(fields[1]), name=name)
