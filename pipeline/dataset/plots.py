"""Plots of counts: photos per species, cumulative share, distribution, sizes of the splits; and saving a figure."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray

from pipeline.console import log
from pipeline.dataset.composition import Composition
from pipeline.dataset.names import short
from pipeline.dataset.splitting import SPLITS
from pipeline.files import replacing
from pipeline.style import GREEN, OCHRE, RED, SLATE

plt.switch_backend("Agg")  # no display is needed
plt.rcParams["text.parse_math"] = False  # a "$" in a name is a "$"
plt.rcParams["font.family"] = ["DejaVu Sans"]  # comes with matplotlib, so the same on every machine
MARKS = (0.5, 0.8, 0.9)
SHOWN, TAIL = 60, 15  # bars per picture, and how many of them for the tail; the picture names the omitted ones between
COLUMNS = 4  # panels in a row


def save(figure: Figure, path: Path, **metadata: str) -> None:
    """Write a PNG safely and free the figure; one log line names letters that the font lacks. metadata: of the file."""
    try:
        with warnings.catch_warnings(record=True) as told, replacing(path) as temporary:
            warnings.simplefilter("always")
            figure.savefig(temporary, dpi=110, bbox_inches="tight", format="png", metadata=metadata)
    finally:
        plt.close(figure)
    if any("missing from" in str(one.message) for one in told):
        log.warning("  %s: the font lacks letters of some names, which show as boxes", path)


def bars(counts: Mapping[str, int], title: str, path: Path) -> None:
    """Horizontal bars, most photos at the top, each with its count and share; long lists show their head and tail."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    total = max(sum(counts.values()), 1)
    rows = [
        (f"{rank}  {short(name)}", n, f" {n:,} / {_percent(n / total)}") for rank, (name, n) in enumerate(ranked, 1)
    ]
    if len(rows) > SHOWN:
        between = sum(n for _, n, _ in rows[SHOWN - TAIL : -TAIL])
        text = f" {len(rows) - SHOWN:,} species between: {between:,} / {between / total:.1%}"
        rows = [*rows[: SHOWN - TAIL], ("…", 0, text), *rows[-TAIL:]]
    figure, axes = plt.subplots(figsize=(9, 1.2 + 0.2 * max(len(rows), 4)))
    drawn = axes.barh(range(len(rows)), [n for _, n, _ in rows], color=GREEN)
    axes.bar_label(drawn, [text for _, _, text in rows], fontsize=7)
    axes.set_yticks(range(len(rows)), [name for name, _, _ in rows], fontsize=7)
    axes.invert_yaxis()
    axes.margins(x=0.16, y=0.01)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(title=f"{title} ({sum(counts.values()):,} photos, {len(counts):,} species)", xlabel="photos")
    _plain(axes)
    save(figure, path)


def cumulative(counts: Mapping[str, int], title: str, path: Path) -> None:
    """Share of the photos held by the n most frequent species, with the 50, 80 and 90 % points marked."""
    values = _positive(counts)[::-1]
    share = np.cumsum(values) / max(values.sum(), 1)
    figure, axes = plt.subplots(figsize=(8, 5))
    axes.plot(np.arange(1, len(share) + 1), share, color=GREEN, linewidth=2, marker="" if len(share) > 1 else "o")
    marked = [int(np.searchsorted(share, mark - 1e-12)) + 1 for mark in MARKS if len(share)]
    for n in sorted(set(marked)):
        reached = ", ".join(f"{mark:.0%}" for mark, at in zip(MARKS, marked, strict=True) if at == n)
        held = share[n - 1]
        axes.plot([0, n, n], [held, held, 0], "--", color="0.6", linewidth=1)
        axes.plot(n, held, "o", color=RED)
        text = f"{reached}: {n:,} species ({n / len(share):.1%} of them) hold {held:.1%}"
        left = n > 0.55 * len(share)  # the text stays inside the axes
        where = {"xytext": (-8, 6) if left else (8, -13), "ha": "right" if left else "left"}
        axes.annotate(text, (n, held), textcoords="offset points", fontsize=9, **where)
    axes.set(title=title, xlabel="species, most frequent first", ylabel="share of all photos", ylim=(0, 1.06))
    axes.set_xlim(0, max(len(share), 1) * 1.02)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.xaxis.get_major_locator().set_params(integer=True)
    _plain(axes)
    save(figure, path)


def distribution(composition: Composition, inverse: bool, title: str, path: Path) -> None:
    """Photos per species, a panel per group with the other groups in grey: the share of species that have at most n
    photos (CDF) or, inverse, the number of photos at each share (PPF)."""
    values = {group: _positive(counts) for group, counts in composition.items()}
    curves = {group: (v, np.arange(1, len(v) + 1) / len(v)) for group, v in values.items() if len(v)}
    columns = min(max(len(curves), 1), COLUMNS)
    rows = max(1, -(-len(curves) // columns))
    side = 7.0 if columns == 1 else 3.4
    figure, grid = plt.subplots(
        rows, columns, figsize=(side * columns, 0.75 * side * rows), squeeze=False, layout="constrained",
        sharex=True, sharey=True,
    )  # fmt: skip
    for axes in grid.flat[len(curves) :]:
        axes.set_axis_off()
    for k, (axes, group) in enumerate(zip(grid.flat, curves, strict=False)):
        photos = curves[group][0]
        for other, (x, y) in curves.items():
            style = {"color": GREEN, "linewidth": 2, "zorder": 3} if other == group else {"color": "0.85"}
            axes.step(*((y, x) if inverse else (x, y)), where="pre" if inverse else "post", **style)
        median = float(np.median(photos))
        axes.plot(*((0.5, median) if inverse else (median, 0.5)), "o", color=RED, markersize=4, zorder=4)
        axes.set_title(f"{short(group)}: {len(photos):,} species, median {median:g}", fontsize=9)
        counted, shared = ("y", "x") if inverse else ("x", "y")
        axes.set(**{f"{counted}scale": "log", f"{shared}lim": (0, 1.02)})
        axis = getattr(axes, f"{counted}axis")
        axis.set_major_locator(LogLocator(subs=(1, 3)))
        axis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axis.set_minor_formatter(NullFormatter())
        getattr(axes, f"{shared}axis").set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.grid(alpha=0.3)
        axes.tick_params(labelsize=8, labelbottom=k + columns >= len(curves))
        _plain(axes)
    figure.suptitle(title)
    texts = (
        ("share of the species", "has at most so many photos")
        if inverse
        else ("photos", "species with at most so many")
    )
    figure.supxlabel(texts[0], fontsize=9)
    figure.supylabel(texts[1], fontsize=9)
    save(figure, path)


def splits(rows: pd.DataFrame, path: Path) -> None:
    """Photos of each split, per group and of all: the bar shows the share, the text the number."""
    good = rows[rows["ok"]]
    table = good.groupby(["group", "split"]).size().unstack(fill_value=0).reindex(columns=list(SPLITS), fill_value=0)
    table = pd.concat([table, table.sum().to_frame("all").T])
    share = table.div(table.sum(axis=1).clip(lower=1), axis=0)
    figure, axes = plt.subplots(figsize=(9, 1.4 + 0.36 * len(table)))
    left = np.zeros(len(table))
    for name, colour in zip(SPLITS, (GREEN, OCHRE, SLATE), strict=True):
        drawn = axes.barh(range(len(table)), share[name], left=left, label=name, color=colour)
        texts = [
            f"{n:,}" if part > 0.01 + 0.012 * len(str(n)) else ""
            for n, part in zip(table[name], share[name], strict=True)
        ]
        axes.bar_label(drawn, texts, label_type="center", fontsize=8, color="white")
        left += share[name].to_numpy()
    axes.set_yticks(range(len(table)), [short(str(group)) for group in table.index])
    for i, n in enumerate(table.sum(axis=1)):
        axes.text(1.01, i, f"{n:,}", va="center", fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set(title="Photos per split", xlabel="share of the group's photos; at the right: all of them")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.5 / figure.get_figheight()), ncols=3, frameon=False)
    _plain(axes)
    save(figure, path)


def merged(composition: Composition) -> dict[str, int]:
    """Photos per species over all groups; counts of equal names are added."""
    counts: dict[str, int] = {}
    for members in composition.values():
        for name, n in members.items():
            counts[name] = counts.get(name, 0) + n
    return counts


def _positive(counts: Mapping[str, int]) -> NDArray[np.int64]:
    """Counts above 0, ascending."""
    return np.sort(np.array([n for n in counts.values() if n > 0], np.int64))


def _percent(share: float) -> str:
    return "<0.1%" if 0 < share < 0.0005 else f"{share:.1%}"


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
