"""Precision, recall and F1 per label from counts, and their mean over the labels that occur: one definition for all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]


def share(part: Floats, whole: Floats, nothing: float = 0.0) -> Floats:
    """part / whole, and `nothing` where the whole is 0."""
    out = np.full(np.broadcast(part, whole).shape, nothing, np.float64)
    return np.divide(part, whole, out=out, where=whole > 0)


def rates(hit: Floats, support: Floats, said: Floats) -> dict[str, Floats]:
    """Of each label (..., labels): photos answered rightly, photos of it, and answers of it."""
    return {"precision": share(hit, said), "recall": share(hit, support), "f1": share(2 * hit, support + said)}


def macro(values: Floats, support: Floats, nothing: float = 0.0) -> Floats:
    """Mean of `values` (..., labels) over the labels that occur in the truth; `nothing` where none does."""
    occurs = support > 0
    return share((values * occurs).sum(axis=-1), occurs.sum(axis=-1), nothing)


def counts(truth: Ids, answers: Ids, labels: int) -> tuple[Floats, Floats, Floats]:
    """hit, support and said of `labels` labels, each (labels,)."""
    of = (truth[truth == answers], truth, answers)
    hit, support, said = (np.bincount(ids, minlength=labels).astype(np.float64) for ids in of)
    return hit, support, said


def macro_f1(truth: Ids, answers: Ids, labels: int) -> float:
    """Mean F1 over the labels that occur in the truth."""
    hit, support, said = counts(truth, answers, labels)
    return float(macro(rates(hit, support, said)["f1"], support))
