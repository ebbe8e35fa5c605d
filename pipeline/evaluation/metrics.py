"""Figures of a model from truth and logits: scores with their 95 % intervals, per species, and a cache's own figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_fscore_support

from pipeline.labels import OTHER, LabelSpace

Ids = NDArray[np.int64]
RESAMPLES = 1000
SCORES = ["precision", "recall", "f1-score"]


def macro_f1(truth: Ids, answers: Ids, labels: int) -> float:
    """Mean F1 over the labels that occur in the truth; answers outside 0..labels-1 are wrong answers of no label."""
    hit = np.bincount(truth[(truth == answers) & (truth >= 0)], minlength=labels)[:labels]
    support = np.bincount(truth[truth >= 0], minlength=labels)[:labels]
    said = np.bincount(answers[(answers >= 0) & (answers < labels)], minlength=labels)
    occurs = support > 0
    return float((2 * hit[occurs] / (support + said)[occurs]).mean()) if occurs.any() else 0.0


def interval(truth: Ids, answers: Ids, labels: int, seed: int) -> dict[str, tuple[float, float]]:
    """95 % percentile bootstrap intervals of accuracy and macro F1 over photos (Efron & Tibshirani, 1993)."""
    rng = np.random.default_rng(seed)
    scores = []
    for _ in range(RESAMPLES):
        draw = rng.integers(0, len(truth), len(truth))
        t, a = truth[draw], answers[draw]
        scores.append(((t == a).mean(), macro_f1(t, a, labels)))
    low, high = np.percentile(np.array(scores), [2.5, 97.5], axis=0)
    return {"accuracy": (float(low[0]), float(high[0])), "macro_f1": (float(low[1]), float(high[1]))}


def headline(truth: Ids, answers: Ids, labels: int, seed: int) -> dict[str, Any]:
    """Accuracy and macro F1 with their intervals."""
    ranges = interval(truth, answers, labels, seed)
    return {
        "photos": len(truth),
        "accuracy": float((truth == answers).mean()),
        "accuracy_95": ranges["accuracy"],
        "macro_f1": macro_f1(truth, answers, labels),
        "macro_f1_95": ranges["macro_f1"],
    }


def model_figures(truth: Ids, logits: NDArray[np.float32], labels: LabelSpace, seed: int) -> dict[str, Any]:
    """All headline figures of one model: with top-3 and top-5, and for a cache its hits and the always-"Other" baseline."""
    answers = logits.argmax(1)
    rank = (logits > logits[np.arange(len(truth)), truth][:, None]).sum(1)
    figures = headline(truth, answers, len(labels), seed)
    figures |= {f"top{k}": float((rank < k).mean()) for k in (3, 5) if k < len(labels)}
    if labels.has_other:
        figures |= cache_figures(truth, answers, len(labels) - 1)
    return figures


def cache_figures(truth: Ids, answers: Ids, other: int) -> dict[str, float]:
    """What a cache does to the cascade; a share of nothing is 0.

    hit_share: photos that it answers. hit_precision: right ones among them. dominant_recall: photos of its species that
    it answers rightly. Error rates, lower is better: other_false_positive_rate, photos of other species that it keeps;
    other_false_discovery_rate, photos of its species among those that it calls "Other".
    """
    hit, dominant = answers != other, truth != other

    def share(part: NDArray[np.bool_], of: NDArray[np.bool_]) -> float:
        return float(part[of].mean()) if of.any() else 0.0

    right = truth == answers
    return {
        "hit_share": float(hit.mean()),
        "hit_precision": share(right, hit),
        "dominant_recall": share(right, dominant),
        "other_false_positive_rate": share(hit, ~dominant),
        "other_false_discovery_rate": share(dominant, ~hit),
        "macro_f1_without_other": macro_f1(truth, answers, other),
        "always_other_accuracy": float((truth == other).mean()),
    }


def species_report(
    truth: Ids, answers: Ids, labels: LabelSpace, totals: dict[str, int], train: dict[str, int]
) -> pd.DataFrame:
    """The users' table: species by rising F1, then accuracy, macro avg, weighted avg. Supports in photos.

    total_support and train_support come from the data set; a label without test photos is kept, with support 0, but is
    no part of the macro avg, whose F1 so is the macro F1 of all other figures.
    """
    scores = precision_recall_fscore_support(truth, answers, labels=range(len(labels)), zero_division=0)
    species = pd.DataFrame(dict(zip(SCORES, scores, strict=False)), index=list(labels.names))
    species["support"] = scores[3].astype(int)
    species["train_support"] = [train.get(name, 0) for name in labels.names]
    species["total_support"] = [totals.get(name, 0) for name in labels.names]
    occurs = species[species["support"] > 0]
    means = pd.DataFrame(
        {
            "accuracy": {"precision": float((truth == answers).mean())},
            "macro avg": occurs[SCORES].mean(),
            "weighted avg": occurs[SCORES].mul(occurs["support"], axis=0).sum() / max(1, occurs["support"].sum()),
        }
    ).T
    rows = [species.sort_values("f1-score", kind="stable"), means]
    return pd.concat(rows).rename_axis("species").reset_index()


def supports(rows: pd.DataFrame, labels: LabelSpace) -> dict[str, int]:
    """Photos per label name among the rows (column species); what is outside the space counts as "Other"."""
    counts = rows["species"].value_counts()
    known = {name: int(counts.get(name, 0)) for name in labels.names if name != OTHER}
    if labels.has_other:
        known[OTHER] = int(counts.sum()) - sum(known.values())
    return known


def paired_difference(a: NDArray[np.bool_], b: NDArray[np.bool_], seed: int) -> dict[str, float]:
    """Difference of two accuracies on the same photos, with its 95 % bootstrap interval."""
    difference = a.astype(float) - b.astype(float)
    rng = np.random.default_rng(seed)
    draws = [difference[rng.integers(0, len(difference), len(difference))].mean() for _ in range(1000)]
    low, high = np.percentile(draws, [2.5, 97.5])
    return {"mean": float(difference.mean()), "low_95": float(low), "high_95": float(high)}
