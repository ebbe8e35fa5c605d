"""Plots of an evaluation: cost and benefit of thresholds, hard species, confusions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from pipeline.dataset.plots import save
from pipeline.edge.rule import Rule
from pipeline.evaluation.predict import Predictions
from pipeline.evaluation.routing import Routed, Rules, at, route, truth_ids
from pipeline.evaluation.scores import Floats, Ids
from pipeline.evaluation.simulation.monte_carlo import half_width, runs_enough
from pipeline.labels import LabelSpace
from pipeline.style import GREEN, RED

SHOWN = 40  # species per picture
NAMED = 400  # labels of a whole confusion up to which they have names and numbers: a picture of 8,000 px
PICTURES = ("accuracy_against_communication.png", "f1_per_species.png", "confusion.png", "stages.png")


def draw(folder: Path, tables: list[Predictions], chosen: Rules, routed: Routed) -> None:
    """All PICTURES. tables: predictions on val and test; routed: the cascade on test."""
    trade, species, matrix, stages = (folder / name for name in PICTURES)
    test = [table.part("test") for table in tables]
    trade_off([table.part("val") for table in tables], test, chosen, trade)
    truth = truth_ids(test[0].rows["species"].tolist(), routed.labels)
    worst_and_best(truth, routed.answers, routed.labels, "the cascade", species)
    confusion(truth, routed, matrix)
    flow(test, routed, truth, stages)


def trade_off(val: list[Predictions], test: list[Predictions], chosen: Rules, path: Path) -> None:
    """Accuracy against the share that no cache answers, as the caches' common threshold falls; the choice is marked."""
    figure, axes = plt.subplots(figsize=(8, 5))
    main = not test[-1].labels.has_other
    for tables, name, colour in ((val, "val (chooses)", "0.6"), (test, "test (reports)", GREEN)):
        points = [_point(tables, at(tables, chosen, threshold)) for threshold in np.linspace(0, 1, 61)]
        axes.plot(*zip(*points, strict=True), "-", color=colour, label=name, linewidth=2)
    x, y = _point(test, chosen)
    axes.plot(x, y, "o", color=RED, markersize=9, label=f"chosen: {y:.3f} on test, {x:.0%} not answered by a cache")
    if main:
        alone = _point(test, [*[None] * (len(test) - 1), Rule()])[1]
        axes.axhline(alone, color="0.3", linestyle=":", label="main alone (test)")
    axes.set(
        xlabel="communication rate (share of photos that reach main)" if main else "share of photos that stay unknown",
        ylabel="accuracy",
        title="What a threshold costs and saves",
    )
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, frameon=False)
    axes.grid(alpha=0.3)
    save(figure, path)


def _point(tables: list[Predictions], rules: Rules) -> tuple[float, float]:
    routed = route(tables, rules)
    truth = truth_ids(tables[0].rows["species"].tolist(), routed.labels)
    return float(routed.sent_on.mean()), float((routed.answers == truth).mean())


def worst_and_best(truth: Ids, answers: Ids, labels: LabelSpace, system: str, path: Path) -> None:
    """F1 of each label with test photos, worst at the top; of many labels the worst and the best."""
    ids = np.unique(truth[truth >= 0])
    hit = np.array([((truth == i) & (answers == i)).sum() for i in ids])
    both = np.array([(truth == i).sum() + (answers == i).sum() for i in ids])
    f1 = 2 * hit / both
    order = np.argsort(f1, kind="stable")
    rows = [(f"{labels.names[ids[i]]} (n={(truth == ids[i]).sum()})", f1[i], f" {f1[i]:.2f}") for i in order]
    if len(rows) > SHOWN:
        rows = [*rows[: SHOWN - 10], (f"({len(rows) - SHOWN} species between)", 0.0, ""), *rows[-10:]]
    names, values, texts = zip(*rows, strict=True)
    figure, axes = plt.subplots(figsize=(8, 1 + 0.21 * len(rows)))
    bars = axes.barh(names, values, color=[GREEN if value >= 0.5 else RED for value in values])
    axes.bar_label(bars, texts, fontsize=7)
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set_xlim(0, 1.08)
    axes.tick_params(axis="y", labelsize=7)
    shown = f"the {SHOWN - 10} worst and 10 best of {len(ids)}" if len(ids) > SHOWN else f"all {len(ids)}"
    axes.set(xlabel=f"F1 of {system} on test (n: test photos; red: below 0.5)", title=f"F1 per species: {shown}")
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def confusion(truth: NDArray[np.int64], routed: Routed, path: Path) -> None:
    """Row-percent confusion of the species with most test photos; all others, where there are, in a last row and column."""
    counts = np.bincount(truth[truth >= 0], minlength=len(routed.labels))
    top = np.argsort(-counts, kind="stable")[: min(20, int((counts > 0).sum()))]
    place = np.full(len(routed.labels) + 2, len(top))
    place[top] = np.arange(len(top))
    others = max(place[truth].max(), place[routed.answers].max()) == len(top)
    matrix = confusion_matrix(place[truth], place[routed.answers], labels=np.arange(len(top) + others)).astype(float)
    rows = matrix.sum(axis=1, keepdims=True)
    matrix /= np.maximum(rows, 1)
    names = [*(routed.labels.names[i] for i in top), "all others, together"][: len(matrix)]
    side = 2 + 0.31 * len(names)
    figure, axes = plt.subplots(figsize=(side + 1, side))
    axes.imshow(matrix, cmap="Greens", vmin=0, vmax=1)
    for i, j in zip(*np.nonzero(matrix >= 0.005), strict=True):
        colour = "white" if matrix[i, j] > 0.6 else "black"
        axes.text(j, i, f"{100 * matrix[i, j]:.0f}", ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(names)), [f"{n} ({c:.0f})" for n, c in zip(names, rows[:, 0], strict=True)], fontsize=8)
    axes.set(xlabel="answer", ylabel="truth (test photos)", title="Where the photos went, % of each row")
    save(figure, path)


def flow(test: list[Predictions], routed: Routed, truth: NDArray[np.int64], path: Path) -> None:
    """Per stage: share of the photos that it answers, right and wrong."""
    right, answered = routed.answers == truth, [routed.answered(k) for k in range(len(test))]
    figure, axes = plt.subplots(figsize=(8, 1.2 + 0.6 * len(test)))
    names = [table.name for table in test]
    good = [float((right & mine).mean()) for mine in answered]
    bad = [float((~right & mine).mean()) for mine in answered]
    for left, values, colour, name in (
        (np.zeros(len(test)), good, GREEN, "right"),
        (np.array(good), bad, RED, "wrong"),
    ):
        bars = axes.barh(names, values, left=left, color=colour, label=name)
        inside = [f"{v:.1%}" if v > 0.07 else "" for v in values]
        axes.bar_label(bars, inside, label_type="center", color="white", fontsize=9)
    told = [
        f" {g + b:.1%}, {g / (g + b):.1%} of them right" if g + b else " none" for g, b in zip(good, bad, strict=True)
    ]
    axes.bar_label(bars, told, fontsize=9)
    axes.set_xticks(np.linspace(0, 1, 11))
    axes.set_xlim(0, 1.45 * max(g + b for g, b in zip(good, bad, strict=True)) or 1)
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set(xlabel="share of all test photos", title="Which stage answers")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.55 / len(test)), ncols=2, fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def convergence(runs: pd.DataFrame, means: Mapping[str, float], within: float, path: Path) -> None:
    """Mean over the first runs with its 95 % interval, and after how many runs that is within +- `within`."""
    figure, all_axes = plt.subplots(len(means), figsize=(8, 2.2 * len(means)), sharex=True)
    count = np.arange(1, len(runs) + 1)
    for axes, (name, mean) in zip(np.atleast_1d(all_axes), means.items(), strict=True):
        values = runs[name].to_numpy()
        running = np.cumsum(values) / count
        variance = np.maximum(np.cumsum(values**2) / count - running**2, 0) * count / np.maximum(count - 1, 1)
        half = half_width(np.sqrt(variance), count)
        start = min(9, len(runs) - 1)  # too few runs for a spread
        axes.fill_between(count[start:], (running - half)[start:], (running + half)[start:], color=GREEN, alpha=0.25)
        axes.plot(count, running, color=GREEN)
        axes.axhline(mean, color="0.5", linewidth=0.8, linestyle=":")
        need = runs_enough(float(values.std(ddof=1)), within) if len(values) > 1 else None
        told = (
            f"{need:,} runs are enough for ±{within:g}" if need else "how many runs are enough needs two runs or more"
        )
        axes.set_title(f"{name.replace('_', ' ')}: {told}", fontsize=10, loc="left")
        if need and need <= len(runs):
            axes.axvline(need, color=RED, linewidth=1)
        spread = max(3 * float(half[start]), 1e-3)
        axes.set_ylim(mean - spread, mean + spread)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    axes.set(xlabel="runs", xscale="log" if len(runs) > 100 else "linear")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    figure.suptitle("Mean over the runs so far, and its 95 % interval")
    figure.tight_layout()
    save(figure, path)


def whole_confusion(matrix: pd.DataFrame, title: str, path: Path) -> None:
    """Row-percent confusion of every label that occurs; every cell from 1 % on with its number. More than NAMED
    labels make a small picture without names and numbers."""
    kept = matrix.index[(matrix.sum(axis=1) + matrix.sum(axis=0)) > 0]
    counts = matrix.loc[kept, kept].to_numpy()
    percent = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 3.0 + 0.17 * len(kept) if len(kept) <= NAMED else 12.0
    figure, axes = plt.subplots(figsize=(side, side))
    axes.imshow(percent, cmap="Greens", norm=PowerNorm(0.5, 0, 100))
    axes.set(xlabel="answer", ylabel="truth (photos)")
    axes.set_title(f"Where the photos went, % of each row: {title}", fontsize=11)
    if len(kept) <= NAMED:
        _name_cells(axes, percent, kept.tolist(), counts.sum(axis=1))
    save(figure, path)


def _name_cells(axes: Axes, percent: Floats, names: list[str], photos: Ids) -> None:
    """Names and photos of the labels, numbers and a grid."""
    for i, j in zip(*np.nonzero(percent >= 1), strict=True):
        colour = ("white" if percent[i, j] > 35 else "black") if i == j else RED
        axes.text(j, i, f"{percent[i, j]:.0f}", ha="center", va="center", fontsize=5, color=colour)
    every, size = np.arange(len(names)), 6 if len(names) > 20 else 8
    axes.set_xticks(every, names, rotation=90, fontsize=size)
    axes.set_yticks(every, [f"{n} ({c:,})" for n, c in zip(names, photos, strict=True)], fontsize=size)
    axes.xaxis.set_ticks_position("top")
    axes.set_xticks(every - 0.5, minor=True)
    axes.set_yticks(every - 0.5, minor=True)
    axes.grid(which="minor", color="0.93", linewidth=0.4)
    axes.tick_params(which="minor", length=0)
