"""Scores from weighted counts: one formula for a figure, its bootstrap interval and a simulated day."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.stats import beta

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
    each photo adds to a numerator and to a denominator. confidence: of the answer, where calibration is wanted; what has
    no answer has none.
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

    @property
    def right(self) -> NDArray[np.bool_]:
        result: NDArray[np.bool_] = (self.truth == self.answers) & (self.truth >= 0)
        return result

    @property
    def shares(self) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
        """The ratios, and the accuracy of all photos and of each part as one more."""
        of = {f"{part}_accuracy": np.isin(self.truth, labels) for part, labels in self.parts.items()}
        of = {"accuracy": np.ones(len(self.truth), bool), **of}
        return {name: (self.right & whole, whole) for name, whole in of.items()} | dict(self.ratios)


def score(sample: Sample, weights: Floats, nothing: float = 0.0) -> dict[str, Floats]:
    """Every figure of the sample, per row of weights (how often each photo counts): {name: (rows,)}.

    Macro means are over the labels that occur in the truth; a figure of no photo at all is `nothing`.
    """
    right = sample.right
    columns = [_counts(sample.truth, sample, sample.truth >= 0), _counts(sample.truth, sample, right)]
    columns.append(_counts(sample.answers, sample, (sample.answers >= 0) & (sample.answers < sample.labels)))
    support, hit, said = ((column.T @ weights.T).T for column in columns)
    shares = {
        name: share(weights @ part_of.astype(np.float64), weights @ whole.astype(np.float64), nothing)
        for name, (part_of, whole) in sample.shares.items()
    }
    figures = {"accuracy": shares["accuracy"], **_means(hit, support, said, np.arange(sample.labels), nothing)}
    if sample.other is not None:
        species = np.delete(np.arange(sample.labels), sample.other)
        figures |= {
            f"{name}_without_other": value for name, value in _means(hit, support, said, species, nothing).items()
        }
    for part, labels in sample.parts.items():
        figures[f"{part}_accuracy"] = shares[f"{part}_accuracy"]
        figures[f"{part}_macro_f1"] = _means(hit, support, said, labels, nothing)["macro_f1"]
    figures |= shares
    if sample.confidence is not None:
        answered = (sample.answers >= 0).astype(np.float64)
        gaps = _bins(sample.confidence, right, np.flatnonzero(answered))
        figures["ece"] = share(np.abs((gaps.T @ weights.T).T).sum(axis=1), weights @ answered, nothing)
    return figures


def with_intervals(sample: Sample, seed: int, counts: Floats | None = None) -> dict[str, Any]:
    """Every figure with its 95 % percentile bootstrap interval over photos (Efron & Tibshirani, 1993): <name>, <name>_95.

    counts: how often each photo was drawn; a resample takes or leaves a photo with all its draws, because repeated draws
    of a photo carry no independent information. A resample without a photo of what a figure is about is left out of its
    interval.

    Where no resample differs, as all photos of a share agree, its interval is the exact one of Clopper & Pearson (1934) for
    their number, of repeated draws Kish's effective one (1965). ECE, which noise alone lifts above 0, has the basic interval
    (Davison & Hinkley, 1997, ch. 5), for resampling lifts it as much again; it is widened to hold the figure.
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
    shares = sample.shares
    for name, figure in figures.items():
        values = np.concatenate(drawn[name])
        values = values[~np.isnan(values)]
        interval = np.percentile(values, [2.5, 97.5]).tolist() if len(values) else [figure, figure]
        if name == "ece":
            low, high = interval
            interval = [max(0.0, 2 * figure - high), max(figure, 2 * figure - low)]
        elif name in shares and figure in (0, 1):
            interval = _of_agreement(figure, shares[name][1], counts) or interval
        result |= {name: figure, f"{name}_95": interval}
    return result


def _of_agreement(figure: float, whole: NDArray[Any], counts: Floats) -> list[float] | None:
    """The exact interval of a share of 0 or 1; None for a ratio that is no share of photos, or of none."""
    counts = counts * whole
    if whole.max() > 1 or not counts.any():
        return None
    none = clopper_pearson(0, counts.sum() ** 2 / (counts**2).sum(), 0.05)[1]
    return [1 - none, 1.0] if figure else [0.0, none]


def clopper_pearson(count: float, photos: float, error: float) -> tuple[float, float]:
    """Interval of a share of which `count` of `photos` were seen, wrong with probability `error` (Clopper & Pearson, 1934)."""
    low = float(beta.ppf(error / 2, count, photos - count + 1)) if count else 0.0
    return low, float(beta.ppf(1 - error / 2, count + 1, photos - count)) if count < photos else 1.0


def calibration_bin(confidence: Floats) -> Ids:
    """Which of the CALIBRATION_BINS bins of equal width, closed above, each confidence in [0, 1] falls into."""
    return np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1)


def _counts(ids: Ids, sample: Sample, keep: NDArray[np.bool_]) -> csr_array:
    """One column per label, one row per photo; 1 where a kept photo has the label."""
    rows = np.flatnonzero(keep)
    return coo_array((np.ones(len(rows)), (rows, ids[rows])), shape=(len(ids), sample.labels)).tocsr()


def _bins(confidence: Floats, right: NDArray[np.bool_], rows: Ids) -> csr_array:
    """Confidence minus rightness of these photos in their bins; the sums of a bin are the gaps of ECE (Guo et al., ICML
    2017)."""
    places = (rows, calibration_bin(confidence[rows]))
    return coo_array(((confidence - right)[rows], places), shape=(len(right), CALIBRATION_BINS)).tocsr()


def _means(hit: Floats, support: Floats, said: Floats, labels: Ids, nothing: float) -> dict[str, Floats]:
    hit, support, said = hit[:, labels], support[:, labels], said[:, labels]
    of = rates(hit, support, said)
    weighted = {
        f"weighted_{name}": share((value * support).sum(axis=1), support.sum(axis=1), nothing)
        for name, value in of.items()
    }
    return {**{f"macro_{name}": macro(value, support, nothing) for name, value in of.items()}, **weighted}
