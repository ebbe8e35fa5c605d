"""An experiment's evaluation, whole: figures, reports, what is made again and when."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from toy import COLOURS, RECIPE, Experiment, cache_colours, write_model

from pipeline.config import Config, load_config, override
from pipeline.dataset.manifest import read_manifest, write_manifest
from pipeline.errors import DataError, LabelSpaceError, ModelError
from pipeline.evaluation import plots
from pipeline.evaluation.choosing.choice import choose
from pipeline.evaluation.predict import load_predictions, predictions_file, save_predictions
from pipeline.evaluation.routing import route, truth_ids
from pipeline.evaluation.run import evaluate
from pipeline.evaluation.simulation.simulation import monte_carlo
from pipeline.evaluation.speed import speed
from pipeline.evaluation.tables import TABLES
from pipeline.files import sha256

from .files import files, read

Lines = Callable[[], list[str]]


def test_all_that_is_promised_is_there(experiment: Experiment) -> None:
    evaluated = experiment.config()
    assert evaluate(evaluated) == 0
    there = {str(path.relative_to(evaluated.output)) for path in evaluated.output.rglob("*") if path.is_file()}
    reports = ["cache_0.5_0", "cache_0.5_0.int8", "main", "main.int8", "cascade"]
    promised = {"metrics.json", "config.yaml", *(f"evaluation/report_{name}.csv" for name in reports)}
    promised |= {f"evaluation/{name}/{table}" for name in reports for table in TABLES}
    promised |= {f"evaluation/plots/{name}" for name in plots.PICTURES}
    promised |= {f"predictions/{name}.parquet" for name in reports[:-1]}
    assert promised <= there
    assert load_config(evaluated.output / "config.yaml") == evaluated


def test_figures_are_of_test_and_agree_with_the_stored_predictions(evaluated: Config) -> None:
    result = read(evaluated.output / "metrics.json")
    assert (result["experiment"], result["split"], result["unreadable"]) == ("toy", "test", {})
    assert set(result["models"]) == {"cache_0.5_0", "main"}
    for precision in ("fp32", "int8"):
        tables = [load_predictions(predictions_file(evaluated, n, precision)) for n in ("cache_0.5_0", "main")]
        val, test = ([table.part(split) for table in tables] for split in ("val", "test"))
        rules = choose(val, evaluated.route, evaluated.seed).rules
        cascade = result["cascade"][precision]
        assert [data["threshold"] for data in cascade["rules"].values()] == [rule and rule.threshold for rule in rules]
        assert list(cascade["rules"]) == ["cache_0.5_0", "main"]
        assert cascade["rules_chosen_on"] == "val"
        assert "at most 30 points less accurate than main (15 val photos" in cascade["promise"]
        routed = route(test, rules)
        right = routed.answers == truth_ids(test[0].rows["species"].tolist(), routed.labels)
        assert cascade["photos"] == len(right) == 30
        assert cascade["accuracy"] == right.mean()
        assert cascade["communication_rate"] == (routed.stage == 1).mean()
        assert cascade["saving_rate"] == pytest.approx(1 - cascade["communication_rate"])
        for k, stage in enumerate(cascade["stages"]):
            mine = routed.stage == k
            assert stage["hit_rate"] == mine.mean()
            assert stage["asked"] == (routed.stage >= k).sum()
            assert stage["hit_rate_95"][0] <= stage["hit_rate"] <= stage["hit_rate_95"][1]
            assert stage["error_rate"] == pytest.approx((~right[mine]).mean())
        ms = sum(stage["ms"] * stage["photos"] for stage in cascade["stages"] if stage["photos"])
        assert ms / 30 == pytest.approx(cascade["ms_per_image"])
        main = result["models"]["main"][precision]
        assert cascade["main_alone_accuracy"] == main["accuracy"]
        difference = cascade["accuracy_minus_main"]
        assert difference["mean"] == pytest.approx(cascade["accuracy"] - main["accuracy"])
        assert difference["low_95"] <= difference["mean"] <= difference["high_95"]
        assert main["bytes"] > 0
        assert main["infer_ms"] > 0
        assert {"top3", "macro_f1", "macro_f1_95"} <= set(main)
        cache = result["models"]["cache_0.5_0"][precision]
        assert cache["always_other_accuracy"] == pytest.approx(1 - 20 / 30)
    for both in result["models"].values():
        difference, (low, high) = both["int8_minus_fp32_accuracy"], both["int8_minus_fp32_accuracy_95"]
        assert difference == pytest.approx(both["int8"]["accuracy"] - both["fp32"]["accuracy"])
        assert low <= difference <= high


def test_reports(evaluated: Config) -> None:
    folder = evaluated.output / "evaluation"
    main = pd.read_csv(folder / "report_main.csv").set_index("species")
    assert set(main.index) == {*COLOURS, "accuracy", "macro avg", "weighted avg"}
    assert main.loc["Apis mellifera", ["support", "train_support", "total_support"]].tolist() == [12, 6, 24]
    result = read(evaluated.output / "metrics.json")
    assert main.loc["macro avg", "f1-score"] == pytest.approx(result["models"]["main"]["fp32"]["macro_f1"], abs=1e-5)
    cache = pd.read_csv(folder / "report_cache_0.5_0.csv").set_index("species")
    assert cache.loc["Other", ["support", "train_support", "total_support"]].tolist() == [10, 5, 20]
    cascade = pd.read_csv(folder / "report_cascade.csv").set_index("species")
    assert cascade.loc["accuracy", "precision"] == pytest.approx(result["cascade"]["int8"]["accuracy"], abs=1e-5)


def test_without_main_wrong_answers_for_species_that_no_stage_knows_count(experiment: Experiment) -> None:
    config = experiment.config("route.stages=[cache_0.5_0]", "route.threshold=0.1")
    evaluate(config)
    folder = config.output / "evaluation"
    told = read(config.output / "metrics.json")["cascade"]["int8"]
    users = pd.read_csv(folder / "report_cascade.csv").set_index("species")["precision"]
    assert users["accuracy"] == pytest.approx(told["accuracy"], abs=1e-5)
    assert users["macro avg"] == pytest.approx(told["macro_precision"], abs=1e-5)
    detailed = pd.read_csv(folder / "cascade" / "detailed_class_metrics.csv").set_index("class_name")["precision"]
    assert users[detailed.index].tolist() == pytest.approx(detailed.tolist(), abs=1e-5)
    assert detailed.min() < 1


def test_a_second_time_is_up_to_date_and_changes_nothing(evaluated: Config, lines: Lines) -> None:
    before = files(evaluated.output)
    lines()
    evaluate(evaluated)
    assert all(line.endswith("up to date") for line in lines())
    assert files(evaluated.output) == before


@pytest.mark.parametrize("name", ["metrics.json", "evaluation/report_main.csv", "evaluation/plots/stages.png"])
def test_what_was_lost_or_changed_is_made_again(evaluated: Config, name: str) -> None:
    (evaluated.output / name).unlink()
    evaluate(evaluated)
    wanted = (evaluated.output / name).read_bytes()
    (evaluated.output / name).write_bytes(b"edited")
    evaluate(evaluated)
    assert (evaluated.output / name).read_bytes() == wanted


def test_other_routing_is_evaluated_again_without_running_a_network(experiment: Experiment, lines: Lines) -> None:
    evaluate(experiment.config())
    lines()
    evaluate(experiment.config("route.threshold=0.9"))
    told = lines()
    assert sum(line.startswith("predict") and line.endswith("up to date") for line in told) == 4
    assert "eval      up to date" not in told
    cascade = read(experiment.config().output / "metrics.json")["cascade"]["fp32"]
    assert {name: rule["threshold"] for name, rule in cascade["rules"].items()} == {"cache_0.5_0": 0.9, "main": 0.0}
    assert cascade["rules_chosen_on"] == "config"


def test_test_photos_choose_nothing(experiment: Experiment) -> None:
    """Other answers on test leave the rules as they were."""
    config = experiment.config()
    evaluate(config)
    before = read(config.output / "metrics.json")["cascade"]["fp32"]["rules"]
    for name in ("cache_0.5_0", "main"):
        path = predictions_file(config, name, "fp32")
        table = load_predictions(path)
        spoilt = np.where((table.rows["split"] == "test").to_numpy()[:, None], -table.logits, table.logits)
        save_predictions(path, replace(table, logits=spoilt))
        stamp = path.parent / ".stamps" / f"{path.stem}.json"
        text = read(stamp)
        text["outputs"][path.name] = sha256(path)
        stamp.write_text(json.dumps(text))
    evaluate(config)
    after = read(config.output / "metrics.json")
    assert after["cascade"]["fp32"]["rules"] == before
    assert after["models"]["main"]["fp32"]["accuracy"] < 0.5


def test_photos_that_cannot_be_read_any_more_are_told_and_counted(experiment: Experiment, lines: Lines) -> None:
    config = experiment.config()
    manifest = read_manifest(config.dataset_dir, config.paths.dst_dataset)
    gone = manifest.part("test")["image_path"][0]
    (manifest.root / gone).unlink()
    assert evaluate(config) == 1
    assert read(config.output / "metrics.json")["unreadable"] == {gone: "no such file"}
    assert read(config.output / "metrics.json")["cascade"]["fp32"]["photos"] == 29
    assert f"  bad photo {gone}: no such file" in lines()
    assert evaluate(config) == 1  # also when it is up to date


@pytest.mark.parametrize("split", ["val", "test"])
def test_an_empty_part(experiment: Experiment, split: str) -> None:
    config = experiment.config()
    manifest = read_manifest(config.dataset_dir, config.paths.dst_dataset)
    rows = manifest.rows.assign(split=manifest.rows["split"].replace(split, "train"))
    write_manifest(config.dataset_dir, rows, manifest.labels, manifest.seed)
    changed = read_manifest(config.dataset_dir, config.paths.dst_dataset).hash
    for name, colours in (("cache_0.5_0", cache_colours("Apis mellifera")), ("main", COLOURS)):
        for file in ("model.onnx", "model.int8.onnx"):
            write_model(config.models / name / file, colours, name=name, data_hash=changed)
    for work in (evaluate, lambda c: monte_carlo(c, "both", "x")):
        with pytest.raises(DataError, match=f"the {split} part has no photo that can be read; check train_val_split"):
            work(config)


def test_missing_steps_say_what_to_run(experiment: Experiment) -> None:
    config = experiment.config()
    for work in (evaluate, lambda c: monte_carlo(c, "both", "x"), lambda c: speed(c, 5)):
        with pytest.raises(DataError, match="no manifest at .*; run dataset_orchestrator.py with the same --config"):
            work(experiment.config("experiment=another"))
        (config.models / "main" / "model.int8.onnx").rename(config.models / "main" / "away")
        with pytest.raises(ModelError, match=r"no exported model at .*main/model.int8.onnx; run train.py and quantize"):
            work(config)
        (config.models / "main" / "away").rename(config.models / "main" / "model.int8.onnx")


def test_stages_that_decode_differently_are_found_before_the_bundle(experiment: Experiment) -> None:
    config = experiment.config()
    hash_ = read_manifest(config.dataset_dir, config.paths.dst_dataset).hash
    for file in ("model.onnx", "model.int8.onnx"):
        other = replace(RECIPE, decode_side=64)
        write_model(config.models / "main" / file, COLOURS, data_hash=hash_, recipe=other)
    with pytest.raises(LabelSpaceError, match="disagree on decode_side"):
        evaluate(config)


def test_speed(evaluated: Config) -> None:
    result = speed(evaluated, 12)
    assert result == read(evaluated.output / "speed.json")
    assert result["photos"] == 12
    assert result["precision"] == "int8"
    assert result["speed_up"] > 0
    assert (result["threads"], result["providers"]) == (1, ["CPUExecutionProvider"])
    for name in ("cascade", "main"):
        assert len(list((evaluated.output / "speed" / name).glob("*.csv"))) == 7
    assert (evaluated.output / "speed" / "speed.png").is_file()
    assert speed(evaluated, 10_000)["photos"] == 30


def test_speed_of_main_alone_on_what_the_caches_send_on(evaluated: Config) -> None:
    some, every = (speed(override(evaluated, {"route.threshold": at}), 10_000) for at in (0, 1))
    assert 0 < some["main_on_sent_on"]["photos"] < every["main_on_sent_on"]["photos"] == 30
    for name in ("mean", "p50", "steps"):
        assert every["main_on_sent_on"][name] == every["main"][name]
    assert "cold_ms" not in every["main_on_sent_on"]
