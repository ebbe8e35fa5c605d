"""The sliders' figures are those of the evaluation, and of the bundle's models alone."""

from __future__ import annotations

import json
import shutil

import pytest
from toy import Experiment

from pipeline.config import Config
from pipeline.dataset.manifest import learnt_manifest
from pipeline.edge.rule import Rule
from pipeline.errors import DataError
from pipeline.evaluation.metrics import headline
from pipeline.evaluation.predict import model_file, predictions_file, predictions_stamp, stage_names
from pipeline.evaluation.routing import route
from pipeline.evaluation.tables import judge_cascade
from pipeline.files import sha256
from pipeline.page.trade_off import Stored, accuracy_95, curve, figures, start, stored, with_thresholds


@pytest.fixture
def config(experiment: Experiment) -> Config:
    return experiment.config()


def test_the_bundles_thresholds_give_the_measured_figures(config: Config) -> None:
    found = stored(config).part("test")
    measured = json.loads((config.output / "metrics.json").read_text())["cascade"]["int8"]
    now = figures(found, found.rules)
    assert now.photos == measured["photos"]
    assert now.accuracy == pytest.approx(measured["accuracy"])
    assert now.communication == pytest.approx(measured["communication_rate"])
    assert now.main_alone == pytest.approx(measured["main_alone_accuracy"])
    assert now.ms == pytest.approx(measured["ms_per_image"])


def test_the_interval_of_the_accuracy_is_that_of_the_report(config: Config) -> None:
    found = stored(config).part("test")
    judged = judge_cascade(found.tables, route(found.tables, found.rules))
    reported = headline(judged.truth, judged.answers, judged.labels, config.seed)
    assert accuracy_95(found, found.rules, config.seed) == tuple(reported["accuracy_95"])
    assert reported["accuracy_95"][0] < reported["accuracy"] < reported["accuracy_95"][1]


def test_a_slider_that_was_not_moved_leaves_the_rule_as_it_is(config: Config) -> None:
    found = stored(config)
    assert list(found.caches) == ["cache_0.5_0"]
    assert with_thresholds(found, [start(rule) for rule in found.caches.values()]) == list(found.rules)


def test_from_one_to_zero_less_and_less_is_sent_on(config: Config) -> None:
    found = stored(config).part("val")
    strict, open_ = (figures(found, with_thresholds(found, [value])) for value in (1.0, 0.0))
    assert strict.communication == 1
    assert strict.accuracy == strict.main_alone
    assert open_.communication < 1
    line = curve(found)
    assert (line["communication"].diff().dropna() <= 0).all()
    assert line.iloc[-1].tolist() == [0.0, open_.communication, open_.accuracy]


def test_a_cache_that_is_off_starts_at_one(config: Config) -> None:
    found = stored(config)
    off = Stored(found.tables, [None, Rule()]).part("val")
    assert start(None) == 1.0
    assert figures(off, with_thresholds(off, [1.0])).communication == 1
    moved = with_thresholds(off, [0.25])
    assert moved == [Rule(0.25), Rule()]


def test_without_main_a_photo_may_stay_without_an_answer(config: Config) -> None:
    found = stored(config)
    alone = Stored(found.tables[:1], found.rules[:1]).part("test")
    now = figures(alone, with_thresholds(alone, [0.9]))
    assert now.main_alone is None
    assert now.communication == now.unknown > 0


def test_predictions_of_binary_models_are_known_by_the_labels_that_these_learnt(experiment: Experiment) -> None:
    config = experiment.config("labels.mode=binary")
    for name in stage_names(config):
        file, precision = model_file(config, name, config.route.precision), config.route.precision
        predictions_stamp(predictions_file(config, name, precision), sha256(file), learnt_manifest(config).hash).write()
    assert [table.name for table in stored(config).tables] == stage_names(config)


def test_predictions_of_other_models_are_an_error(config: Config) -> None:
    folder = config.output / "bundle"
    packed = json.loads((folder / "cascade.json").read_text())
    packed["stages"][0]["sha256"] = "0" * 64
    (folder / "cascade.json").write_text(json.dumps(packed))
    with pytest.raises(DataError, match=r"is not of the models in the bundle; run eval.py, then deploy.py again"):
        stored(config)


def test_no_predictions_says_what_to_run(config: Config) -> None:
    shutil.rmtree(config.output / "predictions")
    with pytest.raises(DataError, match="run eval.py with the same --config first"):
        stored(config)
