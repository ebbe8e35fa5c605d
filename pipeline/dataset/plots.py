"""Pictures of a data set: photos per species, cumulative share, sizes of the splits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipeline.dataset.splitting import SPLITS
from pipeline.files import replacing

plt.switch_backend("Agg")  # no display is needed
plt.rcParams["text.parse_math"] = False  # a "$" in a name is a "$"
MARKS = (0.5, 0.8, 0.9)
SHOWN = 60  # bars per picture; beyond that the middle of the list is left out and the picture says so


def save(figure: Figure, path: Path) -> None:
    """Write a PNG safely and free the figure."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, bbox_inches="tight", format="png")
    plt.close(figure)


def bars(counts: Mapping[str, int], title: str, path: Path) -> None:
    """Horizontal bars, most photos at the top, each with its count and share; long lists show their head and tail."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    total = sum(counts.values())
    left_out = len(ranked) - SHOWN
    if left_out > 0:
        ranked = [*ranked[: SHOWN - 15], (f"({left_out} species between)", 0), *ranked[-15:]]
    figure, axes = plt.subplots(figsize=(9, 1.2 + 0.2 * max(len(ranked), 4)))
    values = [n for _, n in ranked]
    drawn = axes.barh([name for name, _ in ranked], values, color="#3b7a57")
    axes.bar_label(drawn, [f" {n} / {n / total:.1%}" if n else "" for n in values], fontsize=7)
    axes.invert_yaxis()
    axes.margins(x=0.16, y=0.01)
    axes.tick_params(axis="y", labelsize=7)
    axes.set(title=f"{title} ({total:,} photos, {len(counts)} species)", xlabel="photos")
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def cumulative(counts: Mapping[str, int], title: str, path: Path) -> None:
    """Share of the photos held by the n most frequent species, with the 50, 80 and 90 % points marked."""
    values = np.sort(np.array([n for n in counts.values() if n > 0]))[::-1]
    share = np.cumsum(values) / max(values.sum(), 1)
    figure, axes = plt.subplots(figsize=(8, 5))
    axes.plot(np.arange(1, len(share) + 1), share, color="#3b7a57", linewidth=2)
    for mark in MARKS:
        if not len(share):
            break
        n = int(np.searchsorted(share, mark - 1e-12)) + 1
        axes.plot([0, n, n], [share[n - 1], share[n - 1], 0], "--", color="0.6", linewidth=1)
        axes.plot(n, share[n - 1], "o", color="#b3412c")
        text = f"{n} species ({n / len(share):.0%}) hold {share[n - 1]:.1%}"
        axes.annotate(text, (n, share[n - 1]), xytext=(8, -12), textcoords="offset points", fontsize=9)
    axes.set(title=title, xlabel="species, most frequent first", ylabel="share of all photos", ylim=(0, 1.03))
    axes.set_xlim(0, max(len(share), 1) * 1.02)
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def splits(rows: pd.DataFrame, path: Path) -> None:
    """Photos per split and group, stacked."""
    table = (
        rows[rows["ok"]].groupby(["split", "group"]).size().unstack(fill_value=0).reindex(list(SPLITS), fill_value=0)
    )
    figure, axes = plt.subplots(figsize=(7, 1 + 0.6 * len(SPLITS)))
    left = np.zeros(len(table))
    for group in table.columns:
        drawn = axes.barh(table.index, table[group], left=left, label=group)
        axes.bar_label(drawn, label_type="center", fontsize=8, color="white")
        left += table[group].to_numpy()
    axes.invert_yaxis()
    axes.set(title="Photos per split", xlabel="photos")
    axes.legend(loc="lower right", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)
