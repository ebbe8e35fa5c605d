"""The simulation is the plain loop that its documentation tells, only faster."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import DataError
from pipeline.evaluation.metrics import macro_f1
from pipeline.evaluation.monte_carlo import Outcome, simulate, summary

FIGURES = ["accuracy", "macro_f1", "communication_rate"]


def outcome(n: int = 200, labels: int = 9, seed: int = 0) -> Outcome:
    """Long-tailed; a few answers are of no label, and one truth is."""
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, labels + 1)
    truth = rng.choice(labels, n, p=share / share.sum())
    answers = np.where(rng.random(n) < 0.7, truth, rng.integers(-1, labels, n))
    truth[0] = -2
    return Outcome(truth, answers, rng.random(n) < 0.4, labels)


def plain(given: Outcome, runs: int, samples: int, seed: int) -> pd.DataFrame:
    rows = []
    for run in range(runs):
        draw = np.random.default_rng([seed, run]).integers(0, len(given.truth), samples)
        truth, answers = given.truth[draw], given.answers[draw]
        right = sum(1 for t, a in zip(truth, answers, strict=True) if t == a)
        f1 = []
        for label in set(truth.tolist()) - {-2}:
            tp = sum(1 for t, a in zip(truth, answers, strict=True) if t == a == label)
            f1.append(2 * tp / ((truth == label).sum() + (answers == label).sum()))
        rows.append((run, right / samples, sum(f1) / len(f1), given.sent_on[draw].mean()))
    return pd.DataFrame(rows, columns=["run", *FIGURES])


def test_agrees_with_a_plain_loop() -> None:
    table = simulate(outcome(), 40, 60, seed=3)
    assert table.columns.tolist() == ["run", *FIGURES]
    pd.testing.assert_frame_equal(table, plain(outcome(), 40, 60, seed=3), rtol=1e-12)


def test_fewer_samples_than_labels() -> None:
    pd.testing.assert_frame_equal(simulate(outcome(), 20, 3, seed=1), plain(outcome(), 20, 3, seed=1), rtol=1e-12)


@pytest.mark.parametrize("chunk", [1, 7, 100, 1000])
def test_the_chunk_size_changes_nothing(chunk: int) -> None:
    pd.testing.assert_frame_equal(
        simulate(outcome(), 50, 30, 0, chunk), simulate(outcome(), 50, 30, 0), check_exact=True
    )


def test_seeded_and_more_runs_keep_the_first_ones() -> None:
    first = simulate(outcome(), 20, 30, seed=0)
    pd.testing.assert_frame_equal(simulate(outcome(), 60, 30, seed=0)[:20], first, check_exact=True)
    assert not simulate(outcome(), 20, 30, seed=1)["accuracy"].equals(first["accuracy"])


def test_means_are_near_the_figures_of_all_photos() -> None:
    given = outcome(n=1000)
    figures = summary(simulate(given, 400, 500, seed=0))
    accuracy = float((given.truth == given.answers).mean())
    assert figures["accuracy"]["mean"] == pytest.approx(accuracy, abs=0.005)
    assert figures["communication_rate"]["mean"] == pytest.approx(given.sent_on.mean(), abs=0.005)
    assert figures["macro_f1"]["mean"] == pytest.approx(macro_f1(given.truth, given.answers, 9), abs=0.02)


def test_the_interval_is_that_of_the_binomial() -> None:
    given = outcome(n=1000)
    figures = summary(simulate(given, 2000, 400, seed=0))["accuracy"]
    p = float((given.truth == given.answers).mean())
    half = 1.96 * np.sqrt(p * (1 - p) / 400)
    assert figures["low_95"] == pytest.approx(p - half, abs=0.006)
    assert figures["high_95"] == pytest.approx(p + half, abs=0.006)


def test_certainty() -> None:
    given = Outcome(np.array([0, 1, 2]), np.array([0, 1, 2]), np.array([True] * 3), 3)
    assert summary(simulate(given, 5, 10, 0)) == {
        name: {"mean": 1.0, "low_95": 1.0, "high_95": 1.0} for name in FIGURES
    }


def test_no_photos() -> None:
    nothing = Outcome(np.array([], int), np.array([], int), np.array([], bool), 3)
    with pytest.raises(DataError, match="no photos to draw from; the test part is empty"):
        simulate(nothing, 1, 1, 0)


def test_a_thousand_runs_of_a_thousand_photos_take_seconds() -> None:
    """A tenth of the 10,000 runs over 3,400 photos of 144 species that must take less than a minute."""
    given = outcome(3400, 144)
    start = time.process_time()
    simulate(given, 1000, 1000, 0)
    assert time.process_time() - start < 6
