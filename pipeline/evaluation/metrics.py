"""Metrics of a model from truth and logits: scores with 95 % intervals, per species, and those of a cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_fscore_support

from pipeline.edge.rule import probabilities
from pipeline.evaluation.scores import RESAMPLES, Floats, Ids, Sample, clopper_pearson, with_intervals
from pipeline.labels import OTHER, LabelSpace, long_tail

Ratios = dict[str, tuple[NDArray[Any], NDArray[Any]]]
SCORES = ["precision", "recall", "f1-score"]
USERS_NAMES = {  # the predecessors' names of these error rates; lower is better
    "false_positive_rate": "other_false_positive_rate",
    "modified_precision": "other_false_discovery_rate",
    "modified_recall": "dominant_sent_on_rate",
    "modified_f1": "other_error_f1",
}


def headline(
    truth: Ids,
    answers: Ids,
    labels: LabelSpace,
    seed: int,
    *,
    train: Mapping[str, int] | None = None,
    ratios: Ratios | None = None,
    confidence: Floats | None = None,
    counts: Floats | None = None,
) -> dict[str, Any]:
    """Every headline figure with its interval: accuracy, macro and weighted scores, with and without "Other", and ECE.

    train: photos per species to train on; gives the scores of head, middle and tail. ratios: further figures.
    counts: how often each photo was drawn, where it was. A figure of no photo is left out: the part that has none in the
    truth, the calibration of no answer.
    """
    index = {name: i for i, name in enumerate(labels.names)}
    parts = {part: np.array([index[n] for n in names if n in index]) for part, names in long_tail(train or {}).items()}
    other = len(labels) - 1 if labels.has_other else None
    parts = {part: ids for part, ids in parts.items() if np.isin(truth, ids).any()}
    if not (answers >= 0).any():
        confidence = None
    return with_intervals(Sample(truth, answers, len(labels), other, parts, ratios or {}, confidence), seed, counts)


def model_figures(
    truth: Ids, logits: NDArray[np.float32], labels: LabelSpace, seed: int, train: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """All headline figures of one model: with top-3 and top-5, and for a cache its hits and the always-"Other" baseline."""
    answers, everything = logits.argmax(1), np.ones(len(truth))
    own, earlier = logits[np.arange(len(truth)), truth][:, None], np.arange(len(labels)) < truth[:, None]
    rank = ((logits > own) | ((logits == own) & earlier)).sum(1)  # int8 logits tie; the first label wins, as in argmax
    ratios: Ratios = {f"top{k}": (rank < k, everything) for k in (3, 5) if k < len(labels)}
    if labels.has_other:
        ratios |= cache_ratios(truth, answers, len(labels) - 1)
    sure = probabilities(logits).max(axis=1)
    figures = headline(truth, answers, labels, seed, train=train, ratios=ratios, confidence=sure)
    if labels.has_other:
        figures["users_names"] = {old: figures[name] for old, name in USERS_NAMES.items()}
    return figures


def cache_ratios(truth: Ids, answers: Ids, other: int) -> Ratios:
    """Effect of a cache on the cascade, as numerator and denominator per photo.

    hit_share (= saving_rate): photos that it answers; communication_rate: the others. hit_precision: right ones among its
    answers. dominant_recall: photos of its species that it answers rightly. Error rates, lower is better:
    other_false_positive_rate, photos of other species that it keeps; other_false_discovery_rate, photos of its species
    among those that it calls "Other"; dominant_sent_on_rate, photos that it calls "Other" among those of its species;
    other_error_f1, the harmonic mean of these two.
    """
    hit, dominant, everything = answers != other, truth != other, np.ones(len(truth))
    right = truth == answers
    return {
        "hit_share": (hit, everything),
        "saving_rate": (hit, everything),
        "communication_rate": (~hit, everything),
        "hit_precision": (right & hit, hit),
        "dominant_recall": (right & dominant, dominant),
        "other_false_positive_rate": (hit & ~dominant, ~dominant),
        "other_false_discovery_rate": (dominant & ~hit, ~hit),
        "dominant_sent_on_rate": (dominant & ~hit, dominant),
        "other_error_f1": (2 * (dominant & ~hit), dominant.astype(int) + ~hit),
        "always_other_accuracy": (~dominant, everything),
    }


def species_report(
    truth: Ids,
    answers: Ids,
    labels: LabelSpace,
    totals: dict[str, int],
    train: dict[str, int],
    weights: Floats | None = None,
) -> pd.DataFrame:
    """The users' table: species by rising F1, then accuracy, macro avg, weighted avg. Supports in photos.

    total_support and train_support come from the data set; a label without test photos is kept, with support 0, but is
    no part of the macro avg, whose F1 so is the macro F1 of all other figures. weights: how often each photo counts.
    """
    scores = precision_recall_fscore_support(
        truth, answers, labels=range(len(labels)), zero_division=0, sample_weight=weights
    )
    species = pd.DataFrame(dict(zip(SCORES, scores, strict=False)), index=list(labels.names))
    species["support"] = scores[3].astype(int)
    species["train_support"] = [train.get(name, 0) for name in labels.names]
    species["total_support"] = [totals.get(name, 0) for name in labels.names]
    occurs = species[species["support"] > 0]
    means = pd.DataFrame(
        {
            "accuracy": {"precision": float(np.average(truth == answers, weights=weights))},
            "macro avg": occurs[SCORES].mean(),
            "weighted avg": occurs[SCORES].mul(occurs["support"], axis=0).sum() / max(1, occurs["support"].sum()),
        }
    ).T
    rows = [species.sort_values("f1-score", kind="stable"), means]
    return pd.concat(rows).rename_axis("species").reset_index()


def supports(rows: pd.DataFrame, labels: LabelSpace) -> dict[str, int]:
    """Photos per label name among the rows (column species); species outside the space count as "Other"."""
    counts = rows["species"].value_counts()
    known = {name: int(counts.get(name, 0)) for name in labels.names if name != OTHER}
    if labels.has_other:
        known[OTHER] = int(counts.sum()) - sum(known.values())
    return known


def paired_difference(a: NDArray[np.bool_], b: NDArray[np.bool_], seed: int) -> dict[str, float]:
    """Difference of two accuracies on the same photos, with its 95 % bootstrap interval; where they never disagree, with
    the exact limits of a share that was never seen.
    """
    wins, losses = int((a & ~b).sum()), int((b & ~a).sum())
    n = len(a)
    drawn = np.random.default_rng(seed).multinomial(n, [wins / n, losses / n, 1 - (wins + losses) / n], RESAMPLES)
    low, high = np.percentile((drawn[:, 0] - drawn[:, 1]) / n, [2.5, 97.5])
    if not wins + losses:
        high = clopper_pearson(0, n, 0.05)[1]
        low = -high
    return {"mean": (wins - losses) / n, "low_95": float(low), "high_95": float(high)}
