"""Plots of the report: curves from scores, calibration, thresholds, speed against accuracy, other days, comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from pipeline.dataset.plots import save
from pipeline.evaluation.predict import Predictions
from pipeline.evaluation.routing import Rules, at, route, truth_ids
from pipeline.evaluation.tables import Judged, reliability
from pipeline.style import BLUE, COLOURS, GREEN, RED

GRID = np.linspace(0, 1, 201)


def curves(judged: Judged, path: Path, named: Sequence[str] = ()) -> pd.DataFrame:
    """Precision-recall and ROC curve of each species from its scores; returns species, support, average_precision, roc_auc.

    All species are thin lines, their mean is bold, and those of `named` with test photos have a colour each, or the five of
    least average precision where none is named; dashed: all pairs of a photo and a species together (micro), with the area
    under it. Precision is interpolated: the best at this recall or a higher one (Manning et al., 2008, ch. 8.4).
    """
    assert judged.probabilities is not None
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5.6))
    rows, lines = [], {}
    for i, name in enumerate(judged.labels.names):
        of, p = judged.truth == i, judged.probabilities[:, i]
        if not of.any() or of.all():
            continue
        fpr, tpr, _ = roc_curve(of, p)
        lines[name] = interpolated(of, p), np.interp(GRID, fpr, tpr)
        rows.append((name, int(of.sum()), average_precision_score(of, p), roc_auc_score(of, p)))
    found = pd.DataFrame(rows, columns=["species", "support", "average_precision", "roc_auc"])
    found = found.sort_values("average_precision", kind="stable").reset_index(drop=True)
    asked = [name for name in named if name in lines]
    coloured = asked or found["species"].head(5).tolist()
    for axes, k in ((left, 0), (right, 1)):
        for pair in lines.values():
            axes.plot(GRID, pair[k], color="0.8", linewidth=0.5)
        for name, colour in zip(coloured, COLOURS[1:], strict=False):
            axes.plot(GRID, lines[name][k], color=colour, linewidth=1.3, label=name)
        if lines:
            axes.plot(
                GRID,
                np.mean([pair[k] for pair in lines.values()], axis=0),
                color=GREEN,
                linewidth=2.5,
                label="mean of the species",
            )
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
        axes.grid(alpha=0.3)
    if lines:
        every = (judged.truth[:, None] == np.arange(len(judged.labels))).ravel(), judged.probabilities.ravel()
        area = f"all together (micro), area {average_precision_score(*every):.3f}"
        left.plot(GRID, interpolated(*every), "--", color="black", linewidth=1.5, label=area)
        left.legend(handles=left.lines[-1:], loc="lower left", fontsize=8)
    left.set(xlabel="recall", ylabel="precision", title="Precision and recall")
    right.set(xlabel="false positive rate", ylabel="true positive rate (recall)", title="ROC")
    if lines:
        title = None if asked or len(found) <= 5 else "species of least average precision"
        right.legend(loc="lower right", fontsize=8, title=title)
    figure.suptitle(f"One species against the rest, from scores: {len(found)} species with test photos")
    figure.tight_layout()
    save(figure, path)
    return found


def interpolated(of: NDArray[np.bool_], p: NDArray[np.floating]) -> NDArray[np.float64]:
    """Precision at each recall of GRID: the best at this recall or a higher one, a falling step function."""
    precision, recall, _ = precision_recall_curve(of, p)
    best = np.maximum.accumulate(precision[:-1])[::-1]  # without the point (0, 1), which no threshold gives
    steps: NDArray[np.float64] = best[np.searchsorted(recall[-2::-1], GRID - 1e-9)]
    return steps


def calibration(systems: Mapping[str, Judged], ece: Mapping[str, float], path: Path) -> None:
    """Accuracy against confidence, per system; below the diagonal a system is over-confident."""
    figure, (axes, bars) = plt.subplots(2, 1, figsize=(7, 7.5), height_ratios=[3, 1], sharex=True)
    axes.plot([0, 1], [0, 1], ":", color="0.4", label="perfect")
    for (name, judged), colour in zip(systems.items(), cycle(COLOURS), strict=False):
        table = reliability(judged)
        there = table[table["photos"] > 0]
        axes.plot(
            there["mean_confidence"],
            there["accuracy"],
            "o-",
            color=colour,
            markersize=4,
            label=f"{name}: ECE {ece[name]:.3f}",
        )
        centre = (table["from"] + table["to"]) / 2
        bars.step(centre, table["photos"] / table["photos"].sum(), where="mid", color=colour)
    axes.set(
        ylabel="share right", title="Calibration: is a confidence of 80 % right in 80 % of the photos?", ylim=(0, 1.02)
    )
    axes.legend(loc="upper left", fontsize=9)
    bars.set(xlabel="confidence of the answer", ylabel="share of photos", xlim=(0, 1))
    for one in (axes, bars):
        one.grid(alpha=0.3)
        one.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    figure.tight_layout()
    save(figure, path)


def thresholds(tables: Sequence[Predictions], rules: Rules, path: Path) -> None:
    """Communication rate and accuracy on test against one threshold for all caches; the rules' own ones are marked."""
    grid, rows = np.linspace(0, 1, 101), []
    for threshold in grid:
        routed = route(tables, at(tables, rules, threshold))
        truth = truth_ids(tables[0].rows["species"].tolist(), routed.labels)
        rows.append((routed.sent_on.mean(), (routed.answers == truth).mean()))
    rate, accuracy = zip(*rows, strict=True)
    figure, axes = plt.subplots(figsize=(8, 4.8))
    axes.plot(grid, rate, color=GREEN, linewidth=2, label="communication rate (share that no cache answers)")
    axes.plot(grid, accuracy, color=BLUE, linewidth=2, label="accuracy of the cascade")
    caches = [rule for table, rule in zip(tables, rules, strict=True) if table.labels.has_other]
    for k, threshold in enumerate(sorted({rule.threshold for rule in caches if rule})):
        axes.axvline(threshold, color=RED, linewidth=1, label=None if k else "the cascade's own threshold")
    axes.set(xlabel="threshold: least score for a cache to answer", ylim=(0, 1.02), xlim=(0, 1))
    axes.set_title("What the threshold does, on test" + ("" if any(caches) else " (the caches are off)"))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, frameon=False, fontsize=9)
    axes.grid(alpha=0.3)
    save(figure, path)


def post_hoc(folded: pd.DataFrame, trained: pd.DataFrame, path: Path) -> None:
    """Figures of main folded to every number of dominant species; as points the trained caches that, as it, start
    from the first rank."""
    trained = trained[trained["start_rank"] == 0]
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), sharey=True)
    shown = {"accuracy": GREEN, "macro_f1": BLUE, "hit_precision": COLOURS[3], "always_other_accuracy": "0.6"}
    for axes, x, label in (
        (left, "threshold", "threshold: share of the photos of the dominant species"),
        (right, "labels", 'labels (dominant species and "Other")'),
    ):
        for name, colour in shown.items():
            axes.plot(
                folded[x],
                folded[name],
                color=colour,
                label=name.replace("_", " "),
                linestyle=":" if name.startswith("always") else "-",
            )
            if name in trained:
                axes.plot(
                    trained[x],
                    trained[name],
                    "o",
                    color=colour,
                    markersize=7,
                    markeredgecolor="black",
                    label="trained cache" if name == "accuracy" else None,
                )
        axes.set(xlabel=label, ylim=(0, 1.02))
        axes.grid(alpha=0.3)
    right.set_xscale("log")
    right.xaxis.set_major_formatter(lambda value, _: f"{value:.0f}")
    right.xaxis.set_minor_formatter(lambda value, _: "")
    left.legend(loc="upper center", bbox_to_anchor=(1.0, -0.13), ncols=5, frameon=False)
    figure.suptitle(
        "Main, folded to any cache's labels after training (lines), and the caches that were trained (points)"
    )
    save(figure, path)


def pareto(points: Sequence[tuple[str, float, float, tuple[float, float]]], path: Path) -> None:
    """Accuracy against ms per photo; points: name, ms, accuracy, its interval. What nothing beats in both is joined."""
    figure, axes = plt.subplots(figsize=(8, 5))
    best = [p for p in points if not any(q[1] <= p[1] and q[2] >= p[2] and q[1:3] != p[1:3] for q in points)]
    front = sorted((ms, accuracy) for _, ms, accuracy, _ in best)
    axes.plot(*zip(*front, strict=True), color="0.7", linewidth=1, zorder=1, label="nothing is both faster and better")
    for (name, ms, accuracy, (low, high)), colour in zip(points, cycle(COLOURS), strict=False):
        axes.errorbar(
            ms, accuracy, [[max(accuracy - low, 0)], [max(high - accuracy, 0)]], fmt="o", color=colour, capsize=3
        )
        axes.annotate(name, (ms, accuracy), xytext=(7, 5), textcoords="offset points", fontsize=9, color=colour)
    axes.set(
        xlabel="ms per photo, from the file's bytes to the label (one thread, this machine)",
        ylabel="accuracy on every species",
    )
    axes.set_title("Accuracy against time; bars: 95 % intervals")
    axes.set_xlim(0, 1.3 * max(ms for _, ms, _, _ in points))
    axes.grid(alpha=0.3)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), fontsize=9, frameon=False)
    save(figure, path)


def scenarios(table: pd.DataFrame, path: Path) -> None:
    """Per day: accuracy of the cascade and of main alone with intervals, and the share sent on."""
    figure, axes = plt.subplots(figsize=(9, 1.6 + 0.55 * len(table)))
    y = np.arange(len(table))
    for system, colour, shift in (("cascade", GREEN, -0.14), ("main", BLUE, 0.14)):
        if f"{system}_accuracy" not in table:
            continue
        value = table[f"{system}_accuracy"]
        spread = [
            (value - table[f"{system}_accuracy_low_95"]).clip(lower=0),
            (table[f"{system}_accuracy_high_95"] - value).clip(lower=0),
        ]
        name = "main alone" if system == "main" else system
        axes.errorbar(value, y + shift, xerr=spread, fmt="o", color=colour, capsize=3, label=f"accuracy, {name}")
    axes.plot(
        table["communication_rate"], y, "|", color=RED, markersize=16, markeredgewidth=2, label="share sent on to main"
    )
    drawn = [
        str(n) if n == draws else f"{draws} draws of {n}"
        for n, draws in zip(table["photos"], table["draws"], strict=True)
    ]
    axes.set_yticks(y, [f"{name} (n={n})" for name, n in zip(table["scenario"], drawn, strict=True)])
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.02), title="Other days than the test split")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.legend(loc="upper center", bbox_to_anchor=(0.45, -0.5 / len(table) - 0.06), ncols=3, frameon=False)
    axes.grid(alpha=0.3)
    save(figure, path)


def stress(table: pd.DataFrame, path: Path) -> None:
    """Accuracy of each system against the level of each corruption."""
    kinds = [kind for kind in table["corruption"].unique() if kind != "clean"]
    figure, all_axes = plt.subplots(1, len(kinds), figsize=(3.4 * len(kinds), 3.8), sharey=True)
    for axes, kind in zip(np.atleast_1d(all_axes), kinds, strict=True):
        for (system, part), colour in zip(
            table[table["corruption"].isin(["clean", kind])].groupby("system"), cycle(COLOURS), strict=False
        ):
            axes.plot(part["level"], part["accuracy"], "o-", color=colour, markersize=4, label=system)
            axes.fill_between(
                part["level"], part["accuracy_low_95"], part["accuracy_high_95"], color=colour, alpha=0.12
            )
        axes.set(title=kind, xlabel="level (0: clean)", ylim=(0, 1.02))
        axes.grid(alpha=0.3)
    np.atleast_1d(all_axes)[0].set_ylabel("accuracy, each on its own labels")
    figure.legend(
        *np.atleast_1d(all_axes)[0].get_legend_handles_labels(),
        loc="lower center",
        ncols=5,
        frameon=False,
        bbox_to_anchor=(0.5, -0.12),
    )
    save(figure, path)


def comparison(result: Mapping[str, Any], path: Path) -> None:
    """Accuracy, macro recall and macro F1 of each model, and the paired differences, all with 95 % intervals."""
    models, pairs = result["models"], result["pairs"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 1.8 + 0.5 * max(len(models), len(pairs))))
    y = np.arange(len(models))
    for name, colour, shift in (("accuracy", GREEN, -0.15), ("macro_recall", RED, 0), ("macro_f1", BLUE, 0.15)):
        value = np.array([m[name] for m in models.values()])
        low, high = np.array([m[f"{name}_95"] for m in models.values()]).T
        spread = [np.maximum(value - low, 0), np.maximum(high - value, 0)]
        left.errorbar(value, y + shift, xerr=spread, fmt="o", color=colour, capsize=3, label=name.replace("_", " "))
    left.set_yticks(y, list(models))
    left.set(title="Each alone")
    left.legend(fontsize=8)
    y = np.arange(len(pairs))
    value, low, high = (np.array([100 * p[f"a_minus_b_{k}"] for p in pairs]) for k in ("mean", "low_95", "high_95"))
    right.errorbar(
        value, y, xerr=[np.maximum(value - low, 0), np.maximum(high - value, 0)], fmt="o", color=RED, capsize=3
    )
    right.axvline(0, color="0.3", linewidth=1)
    right.set_yticks(y, [f"{p['a']} - {p['b']}\nMcNemar p = {p['mcnemar_p']:.2g}" for p in pairs], fontsize=8)
    right.set(title="Accuracy, paired on the same photos", xlabel="points")
    for axes in (left, right):
        axes.invert_yaxis()
        axes.margins(y=0.25)
        axes.grid(alpha=0.3)
    figure.tight_layout()
    save(figure, path)
