"""The tables of a model's answers, against scikit-learn and by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from toy import COLOURS, cache_colours, write_model, write_photo

from pipeline.edge.cascade import Cascade, Stage
from pipeline.edge.model import Model
from pipeline.edge.rule import Rule
from pipeline.evaluation.metrics import headline
from pipeline.evaluation.predict import Predictions, predict
from pipeline.evaluation.routing import route
from pipeline.evaluation.tables import (
    FORMAT_VERSION,
    NO_LABEL,
    TABLES,
    class_confidence,
    class_metrics,
    confused_pairs,
    confusion,
    errors_per_species,
    inference_statistics,
    judge,
    judge_cascade,
    misclassifications,
    per_sample,
    reliability,
    row_percent,
    write_tables,
)

from .tables import table

NAMES = ["a", "b", "c", "d"]


def model(n: int = 200, seed: int = 0) -> Predictions:
    """Of four species, of which "d" has no photo."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, n, p=[0.7, 0.2, 0.1])
    logits = rng.normal(0, 1, (n, 4))
    logits[np.arange(n), truth] += 1.5
    return table([NAMES[i] for i in truth], logits, NAMES, split="test")


def test_the_cascade_is_as_sure_as_the_device_says(tmp_path: Path) -> None:
    colours = {"cache": cache_colours("Apis mellifera"), "main": COLOURS}
    rules = [Rule(0.5, temperature=3.0), Rule(temperature=0.5)]
    models = [Model(write_model(tmp_path / f"{name}.onnx", colours[name], name=name)) for name in colours]
    cascade = Cascade([Stage.of(model.card["name"], model, rule) for model, rule in zip(models, rules, strict=True)])
    photos = [write_photo(tmp_path / f"{i}.png", colour) for i, colour in enumerate(COLOURS.values())]
    rows = pd.DataFrame({"image_path": [path.name for path in photos], "species": list(COLOURS), "split": "test"})
    tables = [predict(model, tmp_path, rows, "") for model in models]
    judged = judge_cascade(tables, route(tables, rules))
    answers = [cascade.classify(path) for path in photos]
    assert judged.stage.tolist() == [answer.stage for answer in answers]
    assert len(set(judged.stage)) == 2
    assert judged.confidence == pytest.approx([answer.score for answer in answers])
    assert judged.confidence[judged.right] == pytest.approx(judged.true_probability[judged.right])


def test_confusion_agrees_with_scikit_learn() -> None:
    judged = judge(model())
    wanted = confusion_matrix(judged.truth, judged.answers, labels=range(4))
    found = confusion(judged)
    assert found.to_numpy().tolist() == wanted.tolist()
    percent = row_percent(found)
    assert percent.sum(axis=1).tolist() == pytest.approx(
        [100, 100, 100, 0]
    )  # a species without photos: no division by 0


def test_class_metrics_agree_with_scikit_learn() -> None:
    judged = judge(model())
    found = class_metrics(judged)
    precision, recall, f1, support = precision_recall_fscore_support(
        judged.truth, judged.answers, labels=range(4), zero_division=0
    )
    assert found["precision"].tolist() == pytest.approx(precision)
    assert found["recall"][:3].tolist() == pytest.approx(recall[:3])
    assert found["f1_score"].tolist() == pytest.approx(f1)
    assert found["support"].tolist() == support.tolist()
    assert (found[["TP", "FP", "FN", "TN"]].sum(axis=1) == 200).all()
    assert found["specificity"][0] == pytest.approx((judged.answers[judged.truth != 0] != 0).mean())
    assert np.isnan(found["recall"][3])
    assert np.isnan(found["mean_confidence"][3])
    sure = judged.confidence[(judged.truth == 0) & (judged.answers == 0)]
    assert found.loc[0, ["mean_confidence", "min_confidence", "max_confidence"]].tolist() == pytest.approx(
        [sure.mean(), sure.min(), sure.max()]
    )


def test_mistakes() -> None:
    logits = np.log([[0.6, 0.3, 0.05, 0.05], [0.1, 0.8, 0.05, 0.05], [0.2, 0.7, 0.05, 0.05], [0.1, 0.1, 0.7, 0.1]])
    judged = judge(table(["a", "a", "a", "b"], logits, NAMES))
    pairs = confused_pairs(judged)
    assert pairs.values.tolist() == [["a", "b", 2, pytest.approx(2 / 3)], ["b", "c", 1, 1.0]]
    errors = errors_per_species(judged)
    assert errors["true"].tolist() == ["a", "b"]
    assert errors.loc[0, ["count", "share_of_errors"]].tolist() == [2, 1]
    assert errors.loc[0, ["mean_confidence", "min_confidence", "max_confidence"]].tolist() == pytest.approx(
        [0.75, 0.7, 0.8]
    )
    wrong = misclassifications(judged)
    assert wrong["image_path"].tolist() == ["1.png", "3.png", "2.png"]
    assert wrong["confidence_margin"].tolist() == pytest.approx([0.7, 0.6, 0.5])


def test_no_mistake_and_one_photo() -> None:
    judged = judge(table(["a"], np.array([[5, 0, 0, 0]]), NAMES))
    assert confused_pairs(judged).empty
    assert errors_per_species(judged).empty
    assert misclassifications(judged).empty
    assert class_confidence(judged)["std_confidence"].tolist() == [0]


def test_reliability_is_the_calibration_error_bin_by_bin() -> None:
    judged = judge(model())
    found = reliability(judged)
    assert found["photos"].sum() == 200
    ece = (found["gap"].abs() * found["photos"]).sum() / 200
    plain = 0.0
    for low, high in zip(found["from"], found["to"], strict=True):
        inside = (judged.confidence > low) & (judged.confidence <= high)
        if inside.any():
            plain += inside.mean() * abs(judged.confidence[inside].mean() - judged.right[inside].mean())
    assert ece == pytest.approx(plain)
    assert found["accuracy"].isna().equals(found["photos"] == 0)


def test_what_has_no_answer_has_no_calibration() -> None:
    """No main: the last cache's "Other" is no answer, however sure it is."""
    cache = table(["a", "b", "b"], np.log([[0.9, 0.1], [0.05, 0.95], [0.02, 0.98]]), ["a", "Other"], "cache")
    judged = judge_cascade([cache], route([cache], [Rule(0.5)]))
    found = reliability(judged)
    assert found["photos"].sum() == 1
    assert found["gap"].dropna().tolist() == pytest.approx([-0.1])
    figures = headline(judged.truth, judged.answers, judged.labels, 0, confidence=judged.confidence)
    assert figures["ece"] == pytest.approx(0.1)
    none = judge_cascade([cache], route([cache], [Rule(0.99)]))
    assert "ece" not in headline(none.truth, none.answers, none.labels, 0, confidence=none.confidence)


def test_cascade_answers_carry_their_stage_and_its_probability() -> None:
    species = ["a", "b", "x"]
    cache = table(species, np.log([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]]), ["a", "Other"], "cache")
    main = table(species, np.log([[0.1, 0.9], [0.25, 0.75], [0.6, 0.4]]), ["a", "b"])
    judged = judge_cascade([cache, main], route([cache, main], [Rule(0.5), Rule()]))
    assert judged.stage.tolist() == ["cache", "main", "main"]
    assert judged.confidence.tolist() == pytest.approx([0.9, 0.75, 0.6])
    assert judged.true_probability.tolist() == pytest.approx([0.9, 0.75, 0.0])  # no stage knows "x"
    assert confusion(judged).loc[NO_LABEL].tolist() == [1, 0, 0]
    assert "prob_a" not in per_sample(judged)


def test_times_are_told_photo_by_photo() -> None:
    rows = model().rows.assign(infer_ms=np.arange(200.0))
    found = inference_statistics(rows).set_index("statistic")["infer_ms"]
    assert (found["count"], found["mean"], found["max"]) == (200, 99.5, 199)
    assert found["p95"] == pytest.approx(np.percentile(np.arange(200.0), 95))
    assert found["iqr"] == pytest.approx(found["p75"] - found["p25"])


def test_all_tables_are_written_with_their_format(tmp_path: Path) -> None:
    judged = judge(model())
    write_tables(tmp_path, judged)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(TABLES)
    whole = pq.read_table(tmp_path / "per_sample_results.parquet")
    metadata = json.loads(whole.schema.metadata[b"ommatidia"])
    assert (metadata["format_version"], metadata["labels"]) == (FORMAT_VERSION, NAMES)
    rows = whole.to_pandas()
    assert rows["correct"].tolist() == judged.right.tolist()
    assert rows[[f"prob_{name}" for name in NAMES]].sum(axis=1).tolist() == pytest.approx([1.0] * 200)
    percent = pd.read_csv(tmp_path / "confusion_matrix_percent.csv", index_col=0)
    assert percent.columns.tolist() == percent.index.tolist() == NAMES
