"""The plot: a bar a contender with its single rounds as dots, and the other sections beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

__all__ = ["draw"]

OURS: Final = "#1b6ca8"
OTHERS: Final = "#b8c4cc"
DOTS: Final = "#333333"


def draw(found: Mapping[str, Any], file: Path) -> bool:
    """Draw what there is; False where matplotlib is not installed."""
    try:
        import matplotlib as mpl
    except ImportError:
        return False
    mpl.use("Agg")
    from matplotlib import pyplot

    panels = [(name, paint) for name, paint in PANELS.items() if found["sections"].get(name)]
    if not panels:
        return False
    figure, axes = pyplot.subplots(len(panels), 1, figsize=(9, 0.8 + 3.2 * len(panels)), squeeze=False)
    for axis, (name, paint) in zip(axes[:, 0], panels, strict=True):
        paint(axis, found["sections"][name])
        axis.spines[["top", "right"]].set_visible(False)
    about = found["about"]
    figure.suptitle(
        f"Jetray {about['packages'].get('jetray')} ({about['commit']}) on {about['cores']} cores", fontsize=11
    )
    figure.tight_layout()
    figure.savefig(file, dpi=130)
    pyplot.close(figure)
    return True


def _throughput(axis: Any, section: Mapping[str, Any]) -> None:
    there = {name: figure for name, figure in section.items() if "per_second" in figure}
    names = sorted(there, key=lambda name: there[name]["per_second"])
    for row, name in enumerate(names):
        rounds = there[name]["rounds_per_second"]
        axis.barh(row, there[name]["per_second"], color=OURS if name == "jetray" else OTHERS)
        axis.plot(rounds, [row] * len(rounds), ".", color=DOTS)
        axis.annotate(
            f"{there[name]['per_second']:,.0f}", (max(rounds), row), xytext=(6, -3), textcoords="offset points"
        )
    axis.set_yticks(range(len(names)), [there[name]["title"] for name in names])
    axis.set_xscale("log")
    axis.set_xlabel("short jobs a second, publish excluded (logarithmic)")


PANELS: Final[dict[str, Callable[[Any, Mapping[str, Any]], None]]] = {
    "throughput": _throughput,
}
