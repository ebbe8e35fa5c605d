"""Monte Carlo over stored predictions: what a day in the field may give. No network is run again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.errors import DataError

CHUNK = 250  # runs at a time; bounds the memory and changes no figure


@dataclass(frozen=True)
class Outcome:
    """Per photo: true label, answer (below 0: none), and whether it was sent on to main; labels: how many there are."""

    truth: NDArray[np.int64]
    answers: NDArray[np.int64]
    sent_on: NDArray[np.bool_]
    labels: int


def simulate(outcome: Outcome, runs: int, samples: int, seed: int, chunk: int = CHUNK) -> pd.DataFrame:
    """One row per run: accuracy, macro_f1 (over the labels that occur in the run), communication_rate.

    Each run draws `samples` photos with replacement, each photo alike; run r draws from the generator of (seed, r), so a
    figure depends neither on the chunk size nor on how many runs follow.
    """
    n = len(outcome.truth)
    if n == 0:
        raise DataError("there are no photos to draw from; the test part is empty")
    parts = []
    for first in range(0, runs, chunk):
        count = min(chunk, runs - first)
        draws = np.stack([np.random.default_rng([seed, first + r]).integers(0, n, samples) for r in range(count)])
        parts.append(_score(outcome, draws))
    table = pd.DataFrame(np.concatenate(parts), columns=["accuracy", "macro_f1", "communication_rate"])
    return table.rename_axis("run").reset_index()


def _score(outcome: Outcome, draws: NDArray[np.int64]) -> NDArray[np.float64]:
    runs, k = len(draws), outcome.labels
    truth, answers = outcome.truth[draws], outcome.answers[draws]
    right = truth == answers
    run = np.arange(runs)[:, None] * k

    def count(ids: NDArray[np.int64], keep: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.bincount((run + ids)[keep], minlength=runs * k).reshape(runs, k)

    support, said, hit = count(truth, truth >= 0), count(answers, answers >= 0), count(truth, right)
    occurs = support > 0
    f1 = np.divide(2 * hit, support + said, out=np.zeros((runs, k)), where=occurs)
    macro = f1.sum(axis=1) / np.maximum(occurs.sum(axis=1), 1)
    return np.stack([right.mean(axis=1), macro, outcome.sent_on[draws].mean(axis=1)], axis=1)


def summary(table: pd.DataFrame) -> dict[str, Any]:
    """Mean over the runs and the range that holds 95 % of them, per figure."""
    figures = {}
    for name in ("accuracy", "macro_f1", "communication_rate"):
        low, high = np.percentile(table[name], [2.5, 97.5])
        figures[name] = {"mean": float(table[name].mean()), "low_95": float(low), "high_95": float(high)}
    return figures
