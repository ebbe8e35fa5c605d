"""Figures against scikit-learn, against answers known by hand, and against simulation."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from numpy.typing import NDArray
from pandas import DataFrame
from sklearn.metrics import (
    accuracy_score,
    classification_report,
    f1_score,
    precision_recall_fscore_support,
    top_k_accuracy_score,
)

import pipeline.evaluation.metrics as module
from pipeline.evaluation.metrics import (
    cache_figures,
    headline,
    interval,
    macro_f1,
    model_figures,
    species_report,
    supports,
)
from pipeline.labels import LabelSpace

Ids = NDArray[np.int64]


@pytest.fixture(autouse=True)
def fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESAMPLES", 200)


@pytest.fixture(autouse=True)
def no_warnings() -> None:
    warnings.simplefilter("error", RuntimeWarning)  # a division by zero


def space(n: int, other: bool = False) -> LabelSpace:
    names = tuple(f"species {i}" for i in range(n))
    return LabelSpace((*names[:-1], "Other") if other else names)


def drawn(seed: int, n: int = 300, labels: int = 12) -> tuple[Ids, NDArray[np.float32]]:
    """Long-tailed truth, in which some labels do not occur, and logits that often are right."""
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, labels + 1) ** 2
    truth = rng.choice(labels, n, p=share / share.sum())
    logits = rng.normal(0, 1, (n, labels)).astype(np.float32)
    logits[np.arange(n), truth] += 1.5
    return truth, logits


@pytest.mark.parametrize("seed", range(5))
def test_scores_agree_with_scikit_learn(seed: int) -> None:
    truth, logits = drawn(seed)
    figures = model_figures(truth, logits, space(12), seed)
    answers = logits.argmax(1)
    assert figures["photos"] == 300
    assert figures["accuracy"] == pytest.approx(accuracy_score(truth, answers))
    occurring = np.unique(truth)
    assert figures["macro_f1"] == pytest.approx(f1_score(truth, answers, labels=occurring, average="macro"))
    for k in (3, 5):
        assert figures[f"top{k}"] == pytest.approx(top_k_accuracy_score(truth, logits, k=k, labels=range(12)))
    assert "hit_share" not in figures


def test_no_top_k_where_every_label_is_in_it() -> None:
    truth, logits = drawn(0, labels=4)
    figures = model_figures(truth, logits, space(4), 0)
    assert "top3" in figures
    assert "top5" not in figures


def test_macro_f1_by_hand() -> None:
    truth, answers = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 1, 3])
    # label 0: p 1, r 1/2 -> 2/3; label 1: p 2/3, r 1 -> 4/5; label 2: 0; label 3 does not occur
    assert macro_f1(truth, answers, 4) == pytest.approx((2 / 3 + 4 / 5 + 0) / 3)


def test_answers_and_truths_of_no_label() -> None:
    truth, answers = np.array([0, 1, 1, -2]), np.array([-1, 1, 7, -2])
    assert macro_f1(truth, answers, 2) == pytest.approx((0 + 2 / 3) / 2)
    assert macro_f1(np.array([-2]), np.array([-1]), 2) == 0
    assert macro_f1(np.array([], int), np.array([], int), 2) == 0


# intervals ----------------------------------------------------------------------------------------------------------


def test_intervals_hold_the_estimate_and_are_seeded() -> None:
    truth, logits = drawn(1)
    one, same, another = (headline(truth, logits.argmax(1), 12, seed) for seed in (0, 0, 1))
    assert one == same
    assert one["accuracy_95"] != another["accuracy_95"]
    for name in ("accuracy", "macro_f1"):
        low, high = one[f"{name}_95"]
        assert 0 <= low < one[name] < high <= 1
        assert high - low < 0.35


def test_the_interval_of_certainty_is_a_point() -> None:
    truth = np.array([0, 1] * 30)
    assert interval(truth, truth, 2, 0)["accuracy"] == (1, 1)
    assert interval(truth, 1 - truth, 2, 0)["macro_f1"] == (0, 0)


def test_intervals_cover_the_true_accuracy_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for seed in range(200):
        truth = rng.integers(0, 2, 120)
        answers = np.where(rng.random(120) < 0.75, truth, 1 - truth)
        low, high = interval(truth, answers, 2, seed)["accuracy"]
        covered += low <= 0.75 <= high
    assert 0.88 <= covered / 200 <= 0.99


# caches -------------------------------------------------------------------------------------------------------------


def test_cache_figures_by_hand() -> None:
    other = 2
    truth = np.array([0, 0, 1, 1, 2, 2, 2, 2])
    answers = np.array([0, 1, 1, 2, 2, 2, 0, 2])
    assert cache_figures(truth, answers, other) == {
        "hit_share": 4 / 8,
        "hit_precision": 2 / 4,
        "dominant_recall": 2 / 4,
        "other_false_positive_rate": 1 / 4,
        "other_false_discovery_rate": 1 / 4,
        "macro_f1_without_other": pytest.approx((2 * 1 / (2 + 2) + 2 * 1 / (2 + 2)) / 2),
        "always_other_accuracy": 4 / 8,
    }


def test_error_rates_are_those_of_the_label_other() -> None:
    truth, logits = drawn(2, labels=6)
    answers = logits.argmax(1)
    figures = model_figures(truth, logits, space(6, other=True), 0)
    precision, recall, _, _ = precision_recall_fscore_support(truth == 5, answers == 5, average="binary")
    assert figures["other_false_discovery_rate"] == pytest.approx(1 - precision)
    assert figures["other_false_positive_rate"] == pytest.approx(1 - recall)
    species = [i for i in np.unique(truth) if i != 5]
    assert figures["macro_f1_without_other"] == pytest.approx(f1_score(truth, answers, labels=species, average="macro"))


def test_a_cache_that_always_says_other_is_the_baseline() -> None:
    truth = np.array([0, 1, 2, 2, 2])
    figures = cache_figures(truth, np.full(5, 2), 2)
    assert figures["hit_share"] == figures["hit_precision"] == figures["dominant_recall"] == 0
    assert figures["always_other_accuracy"] == 3 / 5
    assert figures["other_false_discovery_rate"] == 2 / 5


def test_a_share_of_nothing_is_zero() -> None:
    only_other = cache_figures(np.array([1, 1]), np.array([1, 1]), 1)
    assert only_other["dominant_recall"] == only_other["other_false_discovery_rate"] == 0
    only_species = cache_figures(np.array([0, 0]), np.array([0, 0]), 1)
    assert only_species["other_false_positive_rate"] == 0
    assert only_species["hit_precision"] == 1


# the report ---------------------------------------------------------------------------------------------------------


def test_report_agrees_with_scikit_learn() -> None:
    truth, logits = drawn(3)
    answers, labels = logits.argmax(1), space(12)
    totals, train = ({name: i * factor for i, name in enumerate(labels.names)} for factor in (10, 7))
    report = species_report(truth, answers, labels, totals, train)
    assert report.columns.tolist() == [
        "species", "precision", "recall", "f1-score", "support", "train_support", "total_support",
    ]  # fmt: skip
    theirs = classification_report(
        truth, answers, labels=range(12), target_names=labels.names, output_dict=True, zero_division=0
    )
    species = report[:12].set_index("species")
    for i, name in enumerate(labels.names):
        mine = species.loc[name]
        assert {key: mine[key] for key in theirs[name]} == pytest.approx(theirs[name])
        assert (mine["train_support"], mine["total_support"]) == (7 * i, 10 * i)
    assert species["f1-score"].is_monotonic_increasing
    occurring = np.unique(truth)
    assert len(occurring) < 12
    for i, average in ((13, "macro"), (14, "weighted")):
        scores = precision_recall_fscore_support(truth, answers, labels=occurring, average=average, zero_division=0)
        assert report.loc[i, "species"] == f"{average} avg"
        assert report.loc[i, ["precision", "recall", "f1-score"]].tolist() == pytest.approx(scores[:3])
    assert report.loc[13, "f1-score"] == pytest.approx(macro_f1(truth, answers, 12))
    assert report.loc[12, "species"] == "accuracy"
    assert report.loc[12, "precision"] == pytest.approx(accuracy_score(truth, answers))
    assert report.loc[12:, ["support", "train_support", "total_support"]].isna().all().all()


def test_a_label_without_test_photos_stays_in_the_report() -> None:
    report = species_report(np.array([0, 0]), np.array([0, 1]), space(3), {"species 2": 4}, {"species 2": 3})
    row = report.set_index("species").loc["species 2"]
    assert row[["f1-score", "support", "train_support", "total_support"]].tolist() == [0, 0, 3, 4]


def test_unknown_answers_lower_recall_and_nothing_else() -> None:
    report = species_report(np.array([0, 0, 1]), np.array([0, -1, 1]), space(2), {}, {}).set_index("species")
    assert len(report) == 5
    assert report.loc["species 0", ["precision", "recall"]].tolist() == [1, 0.5]
    assert report.loc["accuracy", "precision"] == pytest.approx(2 / 3)


def test_supports_count_what_is_outside_the_space_as_other() -> None:
    rows = DataFrame({"species": ["a", "a", "b", "c", "d"]})
    assert supports(rows, LabelSpace(("b", "a", "Other"))) == {"b": 1, "a": 2, "Other": 2}
    assert supports(rows, LabelSpace(("a", "z"))) == {"a": 2, "z": 0}
