#!/usr/bin/env python3
"""Draws the miss curves of a comparison or a sweep as the figure of a paper.

    replay load.lgt.lz4 --strategies lru,arc,opt --slots 1..32 --format csv > misses.csv
    python3 examples/figures/miss_curves.py misses.csv -o misses.pdf

The table is what `replay ... --format csv` or `replay sweep merge` prints; docs/replay-formats.md has its columns. A
sweep of several traces gives a panel for each; several seeds give their mean, and a band from the least to the most.
Needs pandas and matplotlib. The same table gives the same file.
"""

import argparse
import pathlib

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402 (the backend is chosen first)
import pandas as pd  # noqa: E402

# A column of a two-column page is 3.3 inches wide.
WIDTH, HEIGHT = 3.3, 2.4

# Masataka Okabe and Kei Ito, "Color Universal Design", 2008: told apart by every eye.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#000000", "#F0E442"]
MARKS = ["o", "s", "^", "v", "D", "x", "+", "*"]

STYLE = {
    "font.size": 8,
    "axes.prop_cycle": matplotlib.cycler(color=COLOURS) + matplotlib.cycler(marker=MARKS),
    "lines.linewidth": 1,
    "lines.markersize": 3,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "lguest",
}


def read(path):
    """The rows that have a number of slots, with the share of the loads that missed."""
    table = pd.read_csv(path)
    missing = {"strategy", "slots", "loads", "misses", "compulsory"} - set(table.columns)
    if missing:
        raise SystemExit(f"{path} has no column {', '.join(sorted(missing))}: `replay --format csv` writes them")
    table = table.dropna(subset=["slots"])
    if table.empty:
        raise SystemExit(f"{path} has no strategy with a number of slots: `replay --slots 1..32` gives one")
    if "trace" not in table.columns:
        table["trace"] = pathlib.Path(path).stem
    for part in ("misses", "compulsory"):
        table[part] = 100 * table[part] / table["loads"]
    return table


def draw(axes, name, table):
    """One trace: a line for each strategy, and the misses that no policy avoids."""
    for strategy, rows in table.groupby("strategy", sort=False):
        seeds = rows.groupby("slots")["misses"].agg(["mean", "min", "max"])
        axes.plot(seeds.index, seeds["mean"], label=strategy)
        if (seeds["max"] > seeds["min"]).any():
            axes.fill_between(seeds.index, seeds["min"], seeds["max"], alpha=0.2, linewidth=0)
    axes.axhline(table["compulsory"].iloc[0], color="grey", linestyle=":", marker="", label="compulsory")
    axes.set(xlabel="slots", title=pathlib.Path(name).name)
    axes.xaxis.get_major_locator().set_params(integer=True)


def main():
    parser = argparse.ArgumentParser(description="Draws miss curves as the figure of a paper.")
    parser.add_argument("table", help="CSV of `replay --format csv` or `replay sweep merge`")
    parser.add_argument("-o", "--output", required=True, help="the figure: NAME.pdf, NAME.svg or NAME.png")
    arguments = parser.parse_args()
    table = read(arguments.table)
    traces = list(table.groupby("trace", sort=False))
    with plt.rc_context(STYLE):
        size = (WIDTH * len(traces), HEIGHT)
        figure, panels = plt.subplots(1, len(traces), figsize=size, sharey=True, squeeze=False, layout="constrained")
        for axes, (name, rows) in zip(panels[0], traces):
            draw(axes, name, rows)
        # Not before all are drawn: it fixes the top as well, and the panels share their axis.
        panels[0][0].set_ylim(bottom=0)
        panels[0][0].set_ylabel("misses, % of loads")
        panels[0][-1].legend(fontsize=7)
        dated = {".pdf": "CreationDate", ".svg": "Date"}.get(pathlib.Path(arguments.output).suffix)
        figure.savefig(arguments.output, metadata={dated: None} if dated else None)


if __name__ == "__main__":
    main()
