"""Draws how workers share a quota: `python plot_shares.py TABLE PICTURE`. It needs matplotlib.

The table is written by the simulation in `src/api/quota/estimator/simulation/shared.rs`.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

WORKERS = {"first": "#1f6feb", "second": "#c2410c", "third": "#15803d"}
NAMES = {"Window": "window", "Sliding": "sliding window", "Aligned": "aligned window", "Bucket": "token bucket"}


def draw(rows: dict[str, list[dict[str, str]]], picture: Path) -> None:
    """Draws one panel for each kind of quota: accepted calls of each worker and refused calls, in each minute."""
    figure, axes = plt.subplots(1, len(rows), figsize=(14, 4), dpi=100, layout="constrained", sharey=True)
    for axis, (kind, minutes) in zip(axes, rows.items(), strict=True):
        for column, colour in WORKERS.items():
            values = [int(row[column]) for row in minutes]
            axis.plot(values, color=colour, linewidth=2, label=f"{column} worker")
        axis.bar(range(len(minutes)), [int(row["refused"]) for row in minutes], color="#9ca3af", label="refused, all")
        axis.set(title=NAMES[kind], xlabel="minute")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("calls in this minute")
    axes[0].legend(fontsize=9, frameon=False)
    figure.savefig(picture)


def main() -> None:
    """Reads the table and draws the picture that the command line names."""
    rows: dict[str, list[dict[str, str]]] = defaultdict(list)
    with Path(sys.argv[1]).open() as table:
        for row in csv.DictReader(table):
            rows[row["quota"]].append(row)
    draw(rows, Path(sys.argv[2]))


if __name__ == "__main__":
    main()
