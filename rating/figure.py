"""The figure of a report: distribution, mean opinion and average rank of each method, one row per set."""

import io
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rating.manifest import ANSWERS

COLOURS = ["#b2182b", "#ef8a62", "#dddddd", "#92c5de", "#2166ac"]  # bad to excellent; safe for colour-blind readers
LEGEND: dict[str, Any] = {
    "fontsize": 7,
    "frameon": False,
    "loc": "lower right",
    "bbox_to_anchor": (1, 1),
    "handlelength": 1,
}


def draw(results: list[dict[str, Any]], kind: str) -> bytes:
    """Draw the figure and return it as PNG. results: the entry "sets" of analyse(). kind: of the study."""
    heights = [0.9 + 0.32 * len(result["methods"]) for result in results]
    figure = Figure(figsize=(11, sum(heights)), layout="constrained")
    axes = figure.subplots(len(results), 3, squeeze=False, height_ratios=heights)
    for (left, middle, right), result in zip(axes, results):
        rows = result["methods"]
        draw_distribution(left, rows, kind)
        draw_means(middle, rows, kind)
        right.barh(range(len(rows)), [row["rank"] or 0 for row in rows], color="#888888", height=0.6)
        right.set(xlabel="average rank (1 is best)", xlim=(0, len(rows)))
        names = [row["method"] for row in rows]
        for axis in (left, middle, right):
            axis.set(yticks=range(len(rows)), yticklabels=names if axis is left else [], ylim=(len(rows) - 0.4, -0.6))
            axis.spines[["top", "right"]].set_visible(False)
        left.set_title(result["set"], loc="left", fontweight="bold")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def draw_distribution(axis: Axes, rows: list[dict[str, Any]], kind: str) -> None:
    """Draw a bar for each method: the share of each answer, in percent."""
    shares = np.array([row["distribution"] for row in rows], float)
    shares = 100 * shares / np.maximum(shares.sum(1, keepdims=True), 1)
    start = np.zeros(len(rows))
    for share, colour, label in zip(shares.T, COLOURS[:: 1 if kind == "rating" else 2], ANSWERS[kind]):
        axis.barh(range(len(rows)), share, left=start, color=colour, label=label, height=0.6)
        start += share
    axis.set(xlabel="share of the answers (%)", xlim=(0, 100))
    axis.legend(ncols=5, **LEGEND)


def draw_means(axis: Axes, rows: list[dict[str, Any]], kind: str) -> None:
    """Draw a point for each method: its mean, with its interval and the paper's mean."""
    for place, row in enumerate(rows):
        if row["low"] is not None:
            axis.plot([row["low"], row["high"]], [place, place], color="black", lw=1.5)
    axis.plot([row["mean"] for row in rows], range(len(rows)), "o", color="black", label="this study")
    paper = [(row["paper"], place) for place, row in enumerate(rows) if row.get("paper")]
    if paper:
        axis.plot(*zip(*paper), "D", mfc="none", color="#2166ac", label="paper")
        axis.legend(ncols=2, **LEGEND)
    if kind == "rating":
        axis.set(xlabel="mean opinion, 95 % interval", xlim=(0.85, 5.15))
    else:
        axis.set(xlabel="share preferred, 95 % interval", xlim=(-0.03, 1.03))
    axis.grid(axis="x", color="#dddddd", lw=0.6)
    axis.set_axisbelow(True)
