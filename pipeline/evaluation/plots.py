"""Pictures of an evaluation: what a threshold costs and saves, which species are hard, which are taken for which."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from pipeline.dataset.plots import save
from pipeline.evaluation.predict import Predictions
from pipeline.evaluation.routing import Routed, route, truth_ids

GREEN, RED = "#3b7a57", "#b3412c"
SHOWN = 40  # species per picture


def draw(folder: Path, tables: list[Predictions], chosen: list[float], routed: Routed) -> None:
    """All pictures. tables: predictions on val and test; routed: the cascade on test."""
    test = [table.part("test") for table in tables]
    trade_off([table.part("val") for table in tables], test, chosen, folder / "accuracy_against_communication.png")
    truth = truth_ids(test[0].rows["species"].tolist(), routed.labels)
    worst_and_best(truth, routed, folder / "f1_per_species.png")
    confusion(truth, routed, folder / "confusion.png")
    flow(test, routed, truth, folder / "stages.png")


def trade_off(val: list[Predictions], test: list[Predictions], chosen: list[float], path: Path) -> None:
    """Accuracy against the share sent on to main, as the caches' common threshold rises; the chosen point is marked."""
    figure, axes = plt.subplots(figsize=(8, 5))
    for tables, name, colour in ((val, "val (chooses)", "0.6"), (test, "test (reports)", GREEN)):
        points = []
        for threshold in [*np.linspace(0, 0.99, 60), 1.01]:
            points.append(_point(tables, [threshold] * (len(tables) - 1) + [0.0]))
        rate, accuracy = zip(*points, strict=True)
        axes.plot(rate, accuracy, "-", color=colour, label=name, linewidth=2)
    x, y = _point(test, chosen)
    axes.plot(x, y, "o", color=RED, markersize=9, label=f"chosen: {y:.3f} at {x:.0%} sent on")
    axes.axhline(
        _point(test, [2.0] * (len(test) - 1) + [0.0])[1], color="0.3", linestyle=":", label="main alone (test)"
    )
    axes.set(
        xlabel="communication rate (share of photos that reach main)",
        ylabel="accuracy",
        title="What a threshold costs and saves",
    )
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.legend(loc="lower right")
    axes.grid(alpha=0.3)
    save(figure, path)


def _point(tables: list[Predictions], thresholds: list[float]) -> tuple[float, float]:
    routed = route(tables, thresholds)
    truth = truth_ids(tables[0].rows["species"].tolist(), routed.labels)
    return float((routed.stage == len(tables) - 1).mean()), float((routed.answers == truth).mean())


def worst_and_best(truth: NDArray[np.int64], routed: Routed, path: Path) -> None:
    """F1 of each species with test photos, worst at the top; long lists show the worst and the best."""
    ids = np.unique(truth[truth >= 0])
    hit = np.array([((truth == i) & (routed.answers == i)).sum() for i in ids])
    both = np.array([(truth == i).sum() + (routed.answers == i).sum() for i in ids])
    f1 = 2 * hit / both
    order = np.argsort(f1, kind="stable")
    if len(order) > SHOWN:
        order = np.concatenate([order[: SHOWN - 10], order[-10:]])
    names = [f"{routed.labels.names[ids[i]]} (n={(truth == ids[i]).sum()})" for i in order]
    figure, axes = plt.subplots(figsize=(8, 1 + 0.21 * len(order)))
    bars = axes.barh(names, f1[order], color=[GREEN if value >= 0.5 else RED for value in f1[order]])
    axes.bar_label(bars, fmt=" %.2f", fontsize=7)
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set_xlim(0, 1.08)
    axes.tick_params(axis="y", labelsize=7)
    shown = f"the {SHOWN - 10} worst and 10 best of {len(ids)}" if len(ids) > SHOWN else f"all {len(ids)}"
    axes.set(xlabel="F1 of the cascade on test", title=f"F1 per species: {shown}")
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def confusion(truth: NDArray[np.int64], routed: Routed, path: Path) -> None:
    """Row-percent confusion of the species with most test photos; all others in one last row and column."""
    counts = np.bincount(truth[truth >= 0], minlength=len(routed.labels))
    top = np.argsort(-counts, kind="stable")[: min(20, int((counts > 0).sum()))]
    place = np.full(len(routed.labels) + 2, len(top))
    place[top] = np.arange(len(top))
    matrix = confusion_matrix(place[truth], place[routed.answers], labels=np.arange(len(top) + 1)).astype(float)
    matrix /= np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    names = [*(routed.labels.names[i] for i in top), "any other species"]
    figure, axes = plt.subplots(figsize=(9.5, 8.5))
    axes.imshow(matrix, cmap="Greens", vmin=0, vmax=1)
    for i, j in zip(*np.nonzero(matrix >= 0.005), strict=True):
        colour = "white" if matrix[i, j] > 0.6 else "black"
        axes.text(j, i, f"{100 * matrix[i, j]:.0f}", ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(
        range(len(names)),
        [f"{n} ({c})" for n, c in zip(names, [*counts[top], counts.sum() - counts[top].sum()], strict=True)],
        fontsize=8,
    )
    axes.set(xlabel="answer", ylabel="truth (test photos)", title="Where the photos went, % of each row")
    save(figure, path)


def flow(test: list[Predictions], routed: Routed, truth: NDArray[np.int64], path: Path) -> None:
    """Per stage: share of the photos that it answers, right and wrong."""
    right = routed.answers == truth
    figure, axes = plt.subplots(figsize=(8, 1 + 0.6 * len(test)))
    names = [table.name for table in test]
    good = [float((right & (routed.stage == k)).mean()) for k in range(len(test))]
    bad = [float((~right & (routed.stage == k)).mean()) for k in range(len(test))]
    for left, values, colour, name in (
        (np.zeros(len(test)), good, GREEN, "right"),
        (np.array(good), bad, RED, "wrong"),
    ):
        bars = axes.barh(names, values, left=left, color=colour, label=name)
        axes.bar_label(
            bars, [f"{v:.1%}" if v > 0.02 else "" for v in values], label_type="center", color="white", fontsize=9
        )
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set(xlabel="share of all test photos", title="Which stage answers")
    axes.legend(loc="best", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)
