"""Paired comparisons of models and experiments."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom
from toy import Experiment

from pipeline.config import Config
from pipeline.errors import ConfigError, DataError, LabelSpaceError
from pipeline.evaluation.compare import Answers, check_comparable, compare, paired, read_answers
from pipeline.evaluation.run import evaluation_stamp
from pipeline.labels import LabelSpace


def test_mcnemar_by_hand() -> None:
    a = np.array([True] * 50 + [True] * 8 + [False] * 2 + [False] * 40)
    b = np.array([True] * 50 + [False] * 8 + [True] * 2 + [False] * 40)
    found = paired(a, b, 0)
    assert (found["only_a"], found["only_b"]) == (8, 2)
    assert found["mcnemar_p"] == pytest.approx(2 * binom.cdf(2, 10, 0.5))
    assert found["a_minus_b_mean"] == pytest.approx(0.06)
    assert found["a_minus_b_low_95"] < 0.06 < found["a_minus_b_high_95"]
    assert paired(a, a, 0)["mcnemar_p"] == 1


def test_models_of_an_experiment_and_other_experiments(measured: Experiment, tmp_path: Path) -> None:
    config = measured.copy(tmp_path / "root").config()
    (config.output.parent / "twin").symlink_to(config.output)
    result = compare(config, ["main", "main.int8", "cascade", "twin", "twin/main"])
    assert result["photos"] == 30
    metrics = json.loads((config.output / "metrics.json").read_text())
    assert result["models"]["main"]["accuracy"] == metrics["models"]["main"]["fp32"]["accuracy"]
    assert result["models"]["twin"] == result["models"]["cascade"]
    assert result["models"]["twin/main"] == result["models"]["main"]
    assert len(result["pairs"]) == 10
    stem = "compare_main_main.int8_cascade_twin_twin.main"
    written = pd.read_csv(config.output / "evaluation" / f"{stem}.csv")
    assert written["mcnemar_p"].tolist() == pytest.approx([pair["mcnemar_p"] for pair in result["pairs"]])
    assert (config.output / "evaluation" / f"{stem}.png").is_file()


def test_names_that_are_none(measured: Experiment) -> None:
    with pytest.raises(
        DataError, match=r"no evaluated model or experiment 'big'; of this experiment there are \['cache"
    ):
        read_answers(measured.config(), "big")
    with pytest.raises(ConfigError, match="two different names or more"):
        compare(measured.config(), ["main", "main"])


def test_answers_of_other_predictions_or_rules_are_refused(measured: Experiment, tmp_path: Path) -> None:
    copy = measured.copy(tmp_path / "root")
    config, other = copy.config(), copy.config("route.threshold=0.9")
    (config.output.parent / "twin").symlink_to(config.output)
    with pytest.raises(DataError, match="the answers of main do not fit its predictions or settings; run eval.py"):
        read_answers(other, "main")
    read_answers(other, "twin/main")  # which has settings of its own
    (config.output / "predictions" / "main.parquet").write_bytes(b"other logits")
    for name in ("main", "twin"):
        with pytest.raises(DataError, match=f"the answers of {name} do not fit its predictions"):
            read_answers(config, name)


def test_a_table_that_is_none_of_ours(evaluated: Config) -> None:
    path = evaluated.output / "evaluation" / "main" / "per_sample_results.parquet"
    pd.DataFrame({"image_path": ["a"]}).to_parquet(path)
    evaluation_stamp(evaluated).write()
    with pytest.raises(DataError, match=r"per_sample_results.parquet is no table of answers of this project; delete"):
        read_answers(evaluated, "main")


def answers(name: str, photos: list[str], labels: list[str]) -> Answers:
    rows = pd.DataFrame(
        {"image_path": photos, "true_class": "a", "true_label": 0, "predicted_label": 0, "correct": True}
    )
    return Answers(name, rows, LabelSpace(tuple(labels)))


def test_different_photos_or_labels_are_refused() -> None:
    one = answers("one", ["1", "2"], ["a", "b"])
    check_comparable([one, answers("two", ["1", "2"], ["b", "a"])])
    with pytest.raises(LabelSpaceError, match=r"one and two were tested on different photos \(2 and 1\)"):
        check_comparable([one, answers("two", ["1"], ["a", "b"])])
    with pytest.raises(LabelSpaceError, match=r"one and two answer different labels \(2 and 2\), so their accuracies"):
        check_comparable([one, answers("two", ["1", "2"], ["a", "Other"])])
