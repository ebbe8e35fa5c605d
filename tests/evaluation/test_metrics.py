"""Figures against scikit-learn, against answers known by hand, and against simulation."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from numpy.typing import NDArray
from pandas import DataFrame
from scipy.stats import binomtest
from sklearn.metrics import (
    accuracy_score,
    classification_report,
    f1_score,
    precision_recall_fscore_support,
    top_k_accuracy_score,
)

from pipeline.errors import DataError
from pipeline.evaluation.metrics import (
    cache_ratios,
    headline,
    model_figures,
    paired_difference,
    species_report,
    supports,
)
from pipeline.evaluation.scores import Sample, score
from pipeline.labels import LabelSpace

Ids = NDArray[np.int64]


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


def macro_f1(truth: Ids, answers: Ids, labels: int) -> float:
    return float(score(Sample(truth, answers, labels), np.ones((1, len(truth))))["macro_f1"][0])


def test_tied_logits_do_not_lift_the_truth() -> None:
    logits = np.zeros((5, 5), np.float32)  # as int8 networks answer; argmax takes the first label
    figures = model_figures(np.arange(5), logits, space(5), 0)
    assert (figures["accuracy"], figures["top3"]) == (1 / 5, 3 / 5)


def test_macro_f1_by_hand() -> None:
    truth, answers = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 1, 3])
    # label 0: p 1, r 1/2 -> 2/3; label 1: p 2/3, r 1 -> 4/5; label 2: 0; label 3 does not occur
    assert macro_f1(truth, answers, 4) == pytest.approx((2 / 3 + 4 / 5 + 0) / 3)


def test_answers_and_truths_of_no_label() -> None:
    truth, answers = np.array([0, 1, 1, -2]), np.array([-1, 1, 7, -2])
    assert macro_f1(truth, answers, 2) == pytest.approx((0 + 2 / 3) / 2)
    assert macro_f1(np.array([-2]), np.array([-1]), 2) == 0


@pytest.mark.parametrize("average", ["macro", "weighted"])
def test_averages_agree_with_scikit_learn_with_and_without_other(average: str) -> None:
    truth, logits = drawn(4)
    answers = logits.argmax(1)
    figures = headline(truth, answers, space(12, other=True), 0)
    occurring = np.unique(truth)
    for labels, suffix in ((occurring, ""), (occurring[occurring != 11], "_without_other")):
        scores = precision_recall_fscore_support(truth, answers, labels=labels, average=average, zero_division=0)
        for name, value in zip(("precision", "recall", "f1"), scores, strict=False):
            assert figures[f"{average}_{name}{suffix}"] == pytest.approx(value)


def test_head_middle_and_tail_are_cut_by_training_photos() -> None:
    truth, answers = np.array([0, 0, 1, 1, 2, 3]), np.array([0, 0, 1, 0, 1, 3])
    train = {"species 0": 500, "species 1": 50, "species 2": 3, "species 3": 4}
    figures = headline(truth, answers, space(4), 0, train=train)
    assert [figures[f"{part}_accuracy"] for part in ("head", "middle", "tail")] == [1, 0.5, 0.5]
    assert figures["head_macro_f1"] == pytest.approx(2 * 2 / (2 + 3))
    assert figures["tail_macro_f1"] == pytest.approx((0 + 1) / 2)
    assert "head_accuracy" not in headline(truth, answers, space(4), 0, train={"species 3": 4})


def test_calibration_error_by_hand() -> None:
    truth, answers = np.array([0, 0, 0, 0]), np.array([0, 1, 0, 0])
    figures = headline(truth, answers, space(2), 0, confidence=np.array([0.9, 0.9, 0.6, 1.0]))
    # bins of a fifteenth: the two .9 (half of them right), .6, and 1
    assert figures["ece"] == pytest.approx((abs(1.8 - 1) + abs(0.6 - 1) + 0) / 4)


def test_no_photos() -> None:
    with pytest.raises(DataError, match="no photos to score"):
        headline(np.array([], int), np.array([], int), space(2), 0)


# intervals ----------------------------------------------------------------------------------------------------------


def test_intervals_hold_the_estimate_and_are_seeded() -> None:
    truth, logits = drawn(1)
    one, same, another = (model_figures(truth, logits, space(12, other=True), seed) for seed in (0, 0, 1))
    assert one == same
    assert one["accuracy_95"] != another["accuracy_95"]
    for name in ("accuracy", "macro_f1", "weighted_f1", "top3", "hit_precision"):
        low, high = one[f"{name}_95"]
        assert 0 <= low < one[name] < high <= 1
        assert high - low < 0.35


def test_resamples_without_a_photo_of_a_figure_are_no_part_of_its_interval() -> None:
    truth, answers = np.array([0] * 3 + [1] * 97), np.array([0] * 3 + [1] * 97)
    mine, none = truth == 0, np.zeros(100)
    ratios = {"stage": (mine, mine), "no stage": (none, none)}
    figures = headline(truth, answers, space(2), 0, train={"species 0": 5, "species 1": 500}, ratios=ratios)
    for name in ("stage", "tail_accuracy", "tail_macro_f1"):  # 5 % of the resamples have none of the three photos
        assert figures[name] == figures[f"{name}_95"][1] == 1
    assert figures["stage_95"] == figures["tail_accuracy_95"] == [pytest.approx(0.025 ** (1 / 3)), 1]
    assert (figures["no stage"], figures["no stage_95"]) == (0, [0, 0])


def test_every_headline_figure_has_its_interval() -> None:
    truth, logits = drawn(1)
    figures = model_figures(truth, logits, space(12, other=True), 0, {"species 1": 5})
    plain = {name for name, value in figures.items() if isinstance(value, float)}
    assert {f"{name}_95" for name in plain} <= set(figures)
    assert {"ece", "macro_f1_without_other", "tail_macro_f1", "communication_rate", "other_error_f1"} <= plain


def test_photos_that_all_agree_leave_the_doubt_of_their_number() -> None:
    truth = np.array([0, 1] * 30)
    exact = binomtest(60, 60).proportion_ci(method="exact")
    assert headline(truth, truth, space(2), 0)["accuracy_95"] == [pytest.approx(exact.low), 1]
    assert headline(truth, 1 - truth, space(2), 0)["accuracy_95"] == [0, pytest.approx(1 - exact.low)]
    assert headline(truth, 1 - truth, space(2), 0)["macro_f1_95"] == [0, 0]  # no share of photos
    drawn = headline(truth, truth, space(2), 0, counts=np.full(60, 5.0))
    assert drawn["accuracy_95"] == [pytest.approx(exact.low), 1]  # draws of a photo tell nothing new
    few = headline(truth, truth, space(2), 0, counts=np.array([1000.0] + [1.0] * 59))
    assert few["accuracy_95"][0] < 0.05  # all but of one photo


def test_models_that_never_disagree_may_do_so_on_other_photos() -> None:
    same = np.ones(60, bool)
    most = binomtest(0, 60).proportion_ci(method="exact").high
    assert paired_difference(same, same, 0) == pytest.approx({"mean": 0, "low_95": -most, "high_95": most})


def test_the_calibration_error_of_a_calibrated_model_may_be_near_none() -> None:
    """Noise alone makes it larger than 0, and resampling by as much again; the interval does not start above that."""
    for seed in range(8):
        rng = np.random.default_rng(seed)
        sure = rng.beta(5, 1.5, 400)
        answers = np.where(rng.random(400) < sure, 0, 1)
        figures = headline(np.zeros(400, int), answers, space(2), 0, confidence=sure)
        low, high = figures["ece_95"]
        assert 0 <= low < figures["ece"] / 2 < figures["ece"] <= high


def test_a_part_without_test_photos_has_no_figure() -> None:
    truth = np.zeros(20, int)
    figures = headline(truth, truth, space(2), 0, train={"species 0": 500, "species 1": 2})
    assert "head_accuracy" in figures
    assert not [name for name in figures if name.startswith("tail")]


def test_intervals_cover_the_true_accuracy_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for seed in range(200):
        truth = rng.integers(0, 2, 120)
        answers = np.where(rng.random(120) < 0.75, truth, 1 - truth)
        low, high = headline(truth, answers, space(2), seed)["accuracy_95"]
        covered += low <= 0.75 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_the_paired_difference_is_that_of_a_plain_bootstrap() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random(500) < 0.8, rng.random(500) < 0.7
    difference = a.astype(float) - b
    draws = [difference[rng.integers(0, 500, 500)].mean() for _ in range(2000)]
    found = paired_difference(a, b, 0)
    assert found["mean"] == pytest.approx(difference.mean())
    assert [found["low_95"], found["high_95"]] == pytest.approx(np.percentile(draws, [2.5, 97.5]), abs=0.008)


# caches -------------------------------------------------------------------------------------------------------------


def cache_figures(truth: Ids, answers: Ids, other: int) -> dict[str, float]:
    sample = Sample(truth, answers, other + 1, other, ratios=cache_ratios(truth, answers, other))
    return {name: float(value[0]) for name, value in score(sample, np.ones((1, len(truth)))).items()}


def test_cache_figures_by_hand() -> None:
    truth = np.array([0, 0, 1, 1, 2, 2, 2, 2])
    answers = np.array([0, 1, 1, 2, 2, 2, 0, 2])
    wanted = {
        "hit_share": 4 / 8,
        "saving_rate": 4 / 8,
        "communication_rate": 4 / 8,
        "hit_precision": 2 / 4,
        "dominant_recall": 2 / 4,
        "other_false_positive_rate": 1 / 4,
        "other_false_discovery_rate": 1 / 4,
        "dominant_sent_on_rate": 1 / 4,
        "macro_f1_without_other": (2 * 1 / (2 + 2) + 2 * 1 / (2 + 2)) / 2,
        "always_other_accuracy": 4 / 8,
    }
    figures = cache_figures(truth, answers, 2)
    assert {name: figures[name] for name in wanted} == pytest.approx(wanted)


def test_error_rates_are_those_of_the_label_other() -> None:
    truth, logits = drawn(2, labels=6)
    answers = logits.argmax(1)
    figures = model_figures(truth, logits, space(6, other=True), 0)
    precision, recall, _, _ = precision_recall_fscore_support(truth == 5, answers == 5, average="binary")
    assert figures["other_false_discovery_rate"] == pytest.approx(1 - precision)
    assert figures["other_false_positive_rate"] == pytest.approx(1 - recall)
    assert figures["dominant_sent_on_rate"] == pytest.approx((answers[truth != 5] == 5).mean())
    species = [i for i in np.unique(truth) if i != 5]
    assert figures["macro_f1_without_other"] == pytest.approx(f1_score(truth, answers, labels=species, average="macro"))


def eight_labels(kept: int, other: int, sent_on: int, dominant: int, right: int) -> dict[str, float]:
    """Figures of a cache of 7 species from the counts that its predecessors published."""
    truth = np.concatenate([np.full(other, 7), np.arange(dominant) % 7])
    answers = np.concatenate([np.zeros(kept, int), np.full(other - kept, 7), np.arange(dominant) % 7])
    answers[other : other + sent_on] = 7
    wrong = np.arange(other + sent_on, len(answers) - right)
    answers[wrong] = (answers[wrong] + 1) % 7
    logits = np.eye(8, dtype=np.float32)[answers]
    return model_figures(truth, logits, space(8, other=True), 0)


def test_published_error_rates_of_an_eight_label_cache() -> None:
    """12,278 birds and insects; published: .9458, modified precision .0338, recall .1772, F1 .0567."""
    figures = eight_labels(kept=228, other=10_291, sent_on=352, dominant=1987, right=1550)
    names = figures["users_names"]
    assert isinstance(names, dict)
    assert figures["accuracy"] == pytest.approx(0.9458, abs=5e-5)
    assert names["modified_precision"] == figures["other_false_discovery_rate"] == pytest.approx(0.0338, abs=5e-5)
    assert names["modified_recall"] == figures["dominant_sent_on_rate"] == pytest.approx(0.1772, abs=6e-5)
    assert names["modified_f1"] == figures["other_error_f1"] == pytest.approx(0.0567, abs=1e-4)
    assert figures["always_other_accuracy"] == pytest.approx(0.838, abs=5e-4)


def test_published_confusion_of_an_eight_label_cache() -> None:
    """3,770 insects, 313 of 1,960 sent on, 111 of 1,810 kept; published: accuracy .8621, "Other" recall .939, F1 .889."""
    figures = eight_labels(kept=111, other=1810, sent_on=313, dominant=1960, right=1551)
    assert figures["accuracy"] == pytest.approx(0.8621, abs=5e-5)
    assert figures["dominant_sent_on_rate"] == pytest.approx(0.16, abs=5e-3)
    assert 1 - figures["other_false_positive_rate"] == pytest.approx(0.939, abs=5e-4)
    f1 = [figures["macro_f1"] * 8 - figures["macro_f1_without_other"] * 7]
    assert f1 == pytest.approx([0.889], abs=5e-4)


def test_a_cache_that_always_says_other_is_the_baseline() -> None:
    truth = np.array([0, 1, 2, 2, 2])
    figures = cache_figures(truth, np.full(5, 2), 2)
    assert figures["hit_share"] == figures["hit_precision"] == figures["dominant_recall"] == 0
    assert figures["always_other_accuracy"] == figures["accuracy"] == 3 / 5
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
