"""The plot: a panel a section, single rounds as dots."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

__all__ = ["draw"]

OURS: Final = "#1b6ca8"
OTHERS: Final = "#b8c4cc"
DOTS: Final = "#333333"
WITHOUT_BAR: Final = ("raw_ray_batched",)
"""Many times as fast as all others: told in words, so that the others' bars can be seen."""

Figures = Mapping[str, Any]


def draw(found: Figures, file: Path) -> bool:
    """Draw what there is; False where matplotlib is not installed."""
    try:
        import matplotlib as mpl
    except ImportError:
        return False
    mpl.use("Agg")
    from matplotlib import pyplot

    panels = [(paint, found["sections"][name]) for name, paint in PANELS.items() if found["sections"].get(name)]
    figure, axes = pyplot.subplots(max(1, len(panels)), 1, figsize=(9, 1 + 2.2 * len(panels)), squeeze=False)
    for axis, (paint, section) in zip(axes[:, 0], panels, strict=False):
        paint(axis, section)
        axis.spines[["top", "right"]].set_visible(False)
    about = found["about"]
    version = about["packages"].get("jetray")
    figure.suptitle(f"Jetray {version} ({about['commit']}), {about['cores']} cores", fontsize=11)
    figure.tight_layout(rect=(0, 0, 1, 0.98))
    figure.savefig(file, dpi=120)
    pyplot.close(figure)
    return True


def _throughput(axis: Any, section: Figures) -> None:
    there = {name: figure for name, figure in section.items() if "per_second" in figure}
    _bars(
        axis,
        {name: (figure["title"], figure["per_second"], figure["rounds_per_second"]) for name, figure in there.items()},
        {"jetray"},
    )
    axis.set_xlabel("short jobs a second, publish excluded")
    words = [f"{there[name]['title']}: {there[name]['per_second']:,.0f}" for name in WITHOUT_BAR if name in there]
    axis.annotate("\n".join(words), (1, 0.03), xycoords="axes fraction", ha="right", color=DOTS, fontsize=8)


def _latency(axis: Any, section: Figures) -> None:
    bars = {}
    for path, figures in section.items():
        for name, title in (("bare", "bare loop"), ("jetray", "Jetray")):
            if name in figures:
                words = f"{title}, {path.replace('_', ' ')}"
                bars[f"{name} {path}"] = (words, figures[name]["p50_ms"], figures[name]["rounds_p50_ms"])
    _bars(axis, bars, {name for name in bars if name.startswith("jetray")}, "{:.2f}")
    axis.set_xlabel("publish to result, median, ms")


def _backlog(axis: Any, section: Figures) -> None:
    depths = [int(depth) for depth in section]
    axis.plot(depths, [section[str(depth)]["rate_ratio"] for depth in depths], "o-", color=OURS, label="jobs/s")
    axis.plot(depths, [section[str(depth)]["rss_ratio"] for depth in depths], "s--", color=DOTS, label="memory")
    axis.axhspan(0.85, 1.15, color=OTHERS, alpha=0.3)
    axis.set_xscale("log")
    axis.set_ylim(bottom=0)
    axis.set_xlabel("jobs queued; both as multiples of their values at 10,000")
    axis.legend(frameon=False)


def _long(axis: Any, section: Figures) -> None:
    _bars(axis, {"long": ("100 ms, 16 slots", section["per_second"], section["rounds_per_second"])}, {"long"})
    axis.axvline(section["ideal"], color=DOTS, linestyle=":")
    axis.set_xlabel("jobs a second; dotted: the ideal")


def _two(axis: Any, section: Figures) -> None:
    there = {name: section[name] for name in ("gateways_1", "gateways_2")}
    titles = {"gateways_1": "one gateway", "gateways_2": "two gateways"}
    bars = {name: (titles[name], figure["per_second"], figure["rounds_per_second"]) for name, figure in there.items()}
    _bars(axis, bars, set(bars))
    axis.set_xlabel("short jobs a second, one machine")


def _overload(axis: Any, section: Figures) -> None:
    for name, episode in section.items():
        axis.plot(episode["rss_mib"]["each_second"], label=name.replace("_", " "))
    axis.set_ylim(0, 1.1 * max(episode["rss_mib"]["most"] for episode in section.values()))
    axis.set_ylabel("MiB")
    axis.set_xlabel("seconds; memory of a gateway that gets ten times what it can do for the first 60 of them")
    axis.legend(frameon=False)


def _bars(
    axis: Any, bars: Mapping[str, tuple[str, float, list[float]]], ours: set[str], shown: str = "{:,.0f}"
) -> None:
    names = [name for name in sorted(bars, key=lambda name: bars[name][1]) if name not in WITHOUT_BAR]
    for row, name in enumerate(names):
        _, value, rounds = bars[name]
        axis.barh(row, value, color=OURS if name in ours else OTHERS)
        axis.plot(rounds, [row] * len(rounds), ".", color=DOTS)
        axis.annotate(shown.format(value), (max(rounds), row), xytext=(6, -3), textcoords="offset points")
    axis.set_yticks(range(len(names)), [bars[name][0] for name in names])
    axis.margins(x=0.12)


PANELS: Final[dict[str, Callable[[Any, Figures], None]]] = {
    "throughput": _throughput,
    "latency": _latency,
    "backlog": _backlog,
    "long": _long,
    "two": _two,
    "overload": _overload,
}
