"""Draws time, memory and CPU over the number of runs: `python plot.py RESULTS PICTURE`. It needs matplotlib."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

mpl.use("Agg")
import matplotlib.pyplot as plt

COLOURS = {"ours": "#1f6feb", "upstream": "#c2410c"}
NAMES = {"ours": "here", "upstream": "upstream worker (prefect-gcp)"}
# The kernel counts CPU in hundredths of a second: less than this share of the measured time can't be told from 0.
LEAST_CPU = 0.02
Seen = dict[str, Any]


def rank(values: list[float], percent: float) -> float:
    """A percentile."""
    return sorted(values)[max(math.ceil(len(values) * percent / 100) - 1, 0)] if values else math.nan


PANELS: dict[str, dict[str, Any]] = {
    "all started after, s": {"": lambda seen: seen["all submitted after"]},
    "end → run() returns, s": {
        "p50": lambda seen: rank(seen["detections"], 50),
        "p99": lambda seen: rank(seen["detections"], 99),
    },
    "memory over idle at most, MB": {"": lambda seen: seen["most MB"] - seen["idle MB"]},
    "CPU at rest, % of a core": {
        # A worker that never has all runs going at once has no time at rest; its mean is shown.
        "": lambda seen: max(seen["mean CPU %"] if seen["CPU %"] is None else seen["CPU %"], LEAST_CPU)
    },
}


def draw(sessions: dict[str, list[Seen]], picture: Path) -> None:
    """Draws all panels and writes them to one picture."""
    figure, axes = plt.subplots(1, len(PANELS), figsize=(14, 5), dpi=100, layout="constrained")
    for axis, (title, lines) in zip(axes, PANELS.items(), strict=True):
        for kind, seen in sessions.items():
            for (name, value), style in zip(lines.items(), ("-", "--"), strict=False):
                points = [(session["load"]["runs"], value(session)) for session in seen]
                label = f"{NAMES[kind]} {name}".rstrip()
                axis.plot(*zip(*points, strict=True), style, color=COLOURS[kind], marker="o", linewidth=2, label=label)
        _dress(axis, title)
        axis.set_xticks([session["load"]["runs"] for session in max(sessions.values(), key=len)])
        axis.legend(fontsize=10, frameon=False)
    figure.savefig(picture)


def _dress(axis: Axes, title: str) -> None:
    axis.set(xscale="log", yscale="log", xlabel="flow runs at once")
    axis.set_title(title, fontsize=12)
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    bottom, top = axis.get_ylim()
    # Whole decades, so that the axis has labels.
    axis.set_ylim(10 ** math.floor(math.log10(bottom)), 10 ** math.ceil(math.log10(top)))
    axis.grid(color="#dddddd")
    axis.tick_params(labelsize=10)


def main() -> None:
    """Reads the results and draws the picture."""
    results = json.loads(Path(sys.argv[1]).read_text())
    parts = [results["scaling"]["small"], results["detection"], results["scaling"]["large"]]
    sessions = {kind: [part[kind] for part in parts if kind in part] for kind in NAMES}
    draw({kind: seen for kind, seen in sessions.items() if seen}, Path(sys.argv[2]))


if __name__ == "__main__":
    main()
