"""Scores from weighted counts: one formula for a figure, its bootstrap interval and a simulated day."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from pipeline.errors import DataError
from pipeline.macro import macro, rates, share

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]
RESAMPLES = 1000
CELLS = 2_000_000  # weights held at a time; bounds the memory and changes no figure
CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Sample:
    """Photos with truth and answer, as indexes of `labels` labels; below 0: of no label, so never right.

    other: the index of "Other", where there is one. parts: labels of the head, middle and tail. ratios: per name, what
    each photo adds to a numerator and to a denominator. confidence: of the answer, where calibration is wanted.
    """

    truth: Ids
    answers: Ids
    labels: int
    other: int | None = None
    parts: Mapping[str, Ids] = field(default_factory=dict)
    ratios: Mapping[str, tuple[NDArray[Any], NDArray[Any]]] = field(default_factory=dict)
    confidence: Floats | None = None

    def __post_init__(self) -> None:
        if not len(self.truth):
            raise DataError("there are no photos to score; the test part is empty")


def score(sample: Sample, weights: Floats, nothing: float = 0.0) -> dict[str, Floats]:
    """Every figure of the sample, per row of weights (how often each photo counts): {name: (rows,)}.

    Macro means are over the labels that occur in the truth; a figure of no photo at all is `nothing`.
    """
    right = (sample.truth == sample.answers) & (sample.truth >= 0)
    columns = [_counts(sample.truth, sample, sample.truth >= 0), _counts(sample.truth, sample, right)]
    columns.append(_counts(sample.answers, sample, (sample.answers >= 0) & (sample.answers < sample.labels)))
    support, hit, said = ((column.T @ weights.T).T for column in columns)
    photos = weights.sum(axis=1)
    figures = {
        "accuracy": share(weights @ right, photos),
        **_means(hit, support, said, np.arange(sample.labels), nothing),
    }
    if sample.other is not None:
        species = np.delete(np.arange(sample.labels), sample.other)
        figures |= {
            f"{name}_without_other": value for name, value in _means(hit, support, said, species, nothing).items()
        }
    for part, labels in sample.parts.items():
        figures[f"{part}_accuracy"] = share(hit[:, labels].sum(axis=1), support[:, labels].sum(axis=1), nothing)
        figures[f"{part}_macro_f1"] = _means(hit, support, said, labels, nothing)["macro_f1"]
    for name, (part_of, whole) in sample.ratios.items():
        figures[name] = share(weights @ part_of.astype(np.float64), weights @ whole.astype(np.float64), nothing)
    if sample.confidence is not None:
        gaps = _bins(sample.confidence, right)
        figures["ece"] = share(np.abs((gaps.T @ weights.T).T).sum(axis=1), photos)
    return figures


def with_intervals(sample: Sample, seed: int, counts: Floats | None = None) -> dict[str, Any]:
    """Every figure with its 95 % percentile bootstrap interval over photos (Efron & Tibshirani, 1993): <name>, <name>_95.

    counts: how often each photo was drawn; a resample takes or leaves a photo with all its draws, because repeated draws
    of a photo carry no independent information. A resample without a photo of what a figure is about is left out of its
    interval.
    """
    n = len(sample.truth)
    counts = np.ones(n) if counts is None else counts
    figures = {name: float(value[0]) for name, value in score(sample, counts[None]).items()}
    rng, rows = np.random.default_rng(seed), max(1, CELLS // n)
    drawn: dict[str, list[Floats]] = {name: [] for name in figures}
    for first in range(0, RESAMPLES, rows):
        weights = rng.multinomial(n, np.full(n, 1 / n), min(rows, RESAMPLES - first)) * counts
        for name, value in score(sample, weights, np.nan).items():
            drawn[name].append(value)
    result: dict[str, Any] = {"photos": n}
    for name, figure in figures.items():
        values = np.concatenate(drawn[name])
        values = values[~np.isnan(values)]
        interval = np.percentile(values, [2.5, 97.5]).tolist() if len(values) else [figure, figure]
        result |= {name: figure, f"{name}_95": interval}
    return result


def calibration_bin(confidence: Floats) -> Ids:
    """Which of the CALIBRATION_BINS bins of equal width, closed above, each confidence in [0, 1] falls into."""
    return np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1)


def _counts(ids: Ids, sample: Sample, keep: NDArray[np.bool_]) -> csr_array:
    """One column per label, one row per photo; 1 where a kept photo has the label."""
    rows = np.flatnonzero(keep)
    return coo_array((np.ones(len(rows)), (rows, ids[rows])), shape=(len(ids), sample.labels)).tocsr()


def _bins(confidence: Floats, right: NDArray[np.bool_]) -> csr_array:
    """Confidence minus rightness in the photo's bin; the sums of a bin are the gaps of ECE (Guo et al., ICML 2017)."""
    n = len(right)
    places = (np.arange(n), calibration_bin(confidence))
    return coo_array((confidence - right, places), shape=(n, CALIBRATION_BINS)).tocsr()


def _means(hit: Floats, support: Floats, said: Floats, labels: Ids, nothing: float) -> dict[str, Floats]:
    hit, support, said = hit[:, labels], support[:, labels], said[:, labels]
    of = rates(hit, support, said)
    weighted = {
        f"weighted_{name}": share((value * support).sum(axis=1), support.sum(axis=1), nothing)
        for name, value in of.items()
    }
    return {**{f"macro_{name}": macro(value, support, nothing) for name, value in of.items()}, **weighted}
