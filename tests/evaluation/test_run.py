"""An experiment's evaluation, whole: figures, reports, another folder, the simulation."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from toy import COLOURS, RECIPE, Experiment, cache_colours, write_model, write_photo

from pipeline.config import Config, load_config
from pipeline.dataset.manifest import read_manifest, write_manifest
from pipeline.edge.errors import BundleError
from pipeline.errors import ConfigError, DataError, LabelSpaceError, ModelError
from pipeline.evaluation import plots
from pipeline.evaluation.choice import choose
from pipeline.evaluation.folder import evaluate_folder, labelled_photos
from pipeline.evaluation.predict import load_predictions, predictions_file, save_predictions
from pipeline.evaluation.routing import route, truth_ids
from pipeline.evaluation.run import evaluate
from pipeline.evaluation.simulation import monte_carlo
from pipeline.evaluation.speed import speed
from pipeline.evaluation.tables import TABLES
from pipeline.files import sha256

Lines = Callable[[], list[str]]


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below: when it was written, and what is in it."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in found}


# evaluate -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def evaluated(measured: Experiment, tmp_path: Path) -> Config:
    """The toy experiment after evaluation."""
    return measured.copy(tmp_path / "evaluated").config()


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
            assert stage["hit_rate_95"][0] <= stage["hit_rate"] <= stage["hit_rate_95"][1]
            assert stage["error_rate"] == pytest.approx((~right[mine]).mean())
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
        assert both["int8_minus_fp32_accuracy"] == both["int8"]["accuracy"] - both["fp32"]["accuracy"]


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


# another labelled folder --------------------------------------------------------------------------------------------


def test_another_folder(experiment: Experiment, tmp_path: Path) -> None:
    root = tmp_path / "field photos"
    for i in range(4):
        write_photo(root / "Insecta" / "Apis mellifera" / f"{i}.png", COLOURS["Apis mellifera"])
        write_photo(root / "Zygène d'été" / f"{i}.png", COLOURS["Zygène d'été"])
    for i in range(3):
        write_photo(root / "Bombus terrestris" / f"{i}.png", (0, 0, 0))
    (root / "Apis mellifera").mkdir()
    (root / "Apis mellifera" / "broken.jpg").write_text("not a picture")
    config = experiment.config()
    result = evaluate_folder(config, root)
    assert json.loads(json.dumps(result)) == read(config.output / "evaluation" / "images_field photos.json")
    assert (result["folder"], result["photos"]) == ("field photos", 12)
    assert result["unreadable"] == {"Apis mellifera/broken.jpg": "is no image in a format that Pillow knows"}
    assert result["known_species"] == ["Apis mellifera", "Zygène d'été"]
    assert result["unknown_species"] == ["Bombus terrestris"]
    assert result["photos_of_unknown_species"] == 3
    assert 0 <= result["unknown_sent_on"] <= 1
    assert result["cascade"]["photos"] == 8
    assert result["cascade"]["accuracy"] == 1
    assert result["cascade"]["communication_rate"] == 0.5
    assert result["models"]["main"]["accuracy"] == 1
    assert result["models"]["cache_0.5_0"]["hit_precision"] == 1
    assert result["models"]["cache_0.5_0"]["always_other_accuracy"] == 0.5


def test_a_folder_of_unknown_species_only(experiment: Experiment, tmp_path: Path) -> None:
    write_photo(tmp_path / "field" / "Bombus" / "1.png", (0, 0, 0))
    result = evaluate_folder(experiment.config(), tmp_path / "field")
    assert result["known_species"] == []
    assert result["models"] == {"cache_0.5_0": None, "main": None}
    assert "cascade" not in result


def test_a_folder_of_broken_photos_only(experiment: Experiment, tmp_path: Path) -> None:
    (tmp_path / "field" / "Apis mellifera").mkdir(parents=True)
    (tmp_path / "field" / "Apis mellifera" / "1.jpg").touch()
    result = evaluate_folder(experiment.config(), tmp_path / "field")
    assert len(result["unreadable"]) == 1
    assert result["known_species"] == result["unknown_species"] == []


def test_another_folder_leaves_the_experiment_alone(evaluated: Config, tmp_path: Path) -> None:
    before = files(evaluated.output)
    evaluate_folder(evaluated, write_photo(tmp_path / "field" / "Apis mellifera" / "1.png", (220, 30, 30)).parents[1])
    after = files(evaluated.output)
    assert set(after) - set(before) == {"evaluation/images_field.json"}
    assert {name: after[name] for name in before} == before


def test_labelled_photos_are_sorted_and_named_after_their_folder(tmp_path: Path) -> None:
    names = ["Insecta/b/2.JPG", "Insecta/b/1.jpg", "a/1.png", "a/notes.txt", "loose.jpg", "a/._1.png"]
    names.append(unicodedata.normalize("NFD", "Zygène d'été/1.jpg"))  # as a Mac writes it
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "a" / "folder.jpg").mkdir()
    rows = labelled_photos(tmp_path)
    assert rows["species"].tolist() == ["b", "b", "Zygène d'été", "a"]
    assert rows["image_path"].tolist()[:2] == ["Insecta/b/1.jpg", "Insecta/b/2.JPG"]
    assert all((tmp_path / path).exists() for path in rows["image_path"])


@pytest.mark.parametrize("what", ["nothing", "empty", "file", "flat"])
def test_no_labelled_photos(experiment: Experiment, tmp_path: Path, what: str) -> None:
    root = tmp_path / "field"
    if what == "file":
        write_photo(root.with_suffix(".jpg"), (0, 0, 0)).rename(root)
    elif what == "flat":
        write_photo(root / "1.jpg", (0, 0, 0))
    elif what == "empty":
        root.mkdir()
    with pytest.raises(DataError, match="no photos in species folders below .*field; expected <species>/<photo>.jpg"):
        evaluate_folder(experiment.config(), root)


# simulation ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["small", "big", "both"])
def test_simulation(evaluated: Config, model: str) -> None:
    result = monte_carlo(evaluated, model, "my exp/1")
    folder = evaluated.output / "monte_carlo"
    assert result == read(folder / f"my exp_1_{model}.json")
    assert (result["runs"], result["samples"], result["photos"]) == (50, 40, 30)
    assert (result["drawn_from"], result["precision"], result["model"]) == ("test", "int8", model)
    runs = pd.read_csv(folder / f"my exp_1_{model}_runs.csv")
    assert len(runs) == 50
    metrics_ = read(evaluated.output / "metrics.json")
    whole = {
        "small": metrics_["models"]["cache_0.5_0"]["int8"],
        "big": metrics_["models"]["main"]["int8"],
        "both": metrics_["cascade"]["int8"],
    }[model]
    for name in ("accuracy", "communication_rate"):
        figures = result[name]
        assert figures["low_95"] <= figures["mean"] <= figures["high_95"]
        assert figures["mean"] == pytest.approx(runs[name].mean(), abs=1e-5)
    assert result["accuracy"]["mean"] == pytest.approx(whole["accuracy"], abs=0.04)
    rate = {"small": 1 - whole.get("hit_share", 0), "big": 1.0, "both": whole.get("communication_rate")}[model]
    assert result["communication_rate"]["mean"] == pytest.approx(rate, abs=0.04)


def test_simulation_needs_no_evaluation_before_and_runs_no_network_twice(experiment: Experiment, lines: Lines) -> None:
    config = experiment.config()
    first = monte_carlo(config, "both", "x")
    before = files(config.output)
    lines()
    assert monte_carlo(config, "both", "x") == first
    told = lines()
    assert sum(line.endswith("up to date") for line in told) == 3
    assert any("accuracy" in line for line in told)  # the figures are told all the same
    assert files(config.output) == before
    assert monte_carlo(experiment.config("monte_carlo.runs=20"), "both", "x")["runs"] == 20
    assert monte_carlo(experiment.config("route.threshold=1"), "both", "x")["communication_rate"]["mean"] == 1


def test_input_size_is_checked_against_the_models_that_are_used(experiment: Experiment) -> None:
    config = experiment.config()
    hash_ = read_manifest(config.dataset_dir, config.paths.dst_dataset).hash
    for given in ((32,), (32, 32)):
        monte_carlo(config, "both", "x", given)
    with pytest.raises(DataError, match=r"--input_size 160 does not fit the models: \{'cache_0.5_0': 32, 'main': 32\}"):
        monte_carlo(config, "both", "x", (160,))
    for file in ("model.onnx", "model.int8.onnx"):
        write_model(config.models / "main" / file, COLOURS, data_hash=hash_, recipe=replace(RECIPE, size=64))
    monte_carlo(config, "small", "x", (32,))
    monte_carlo(config, "big", "x", (64,))
    monte_carlo(config, "both", "x", (32, 64))
    with pytest.raises(DataError, match="--input_size 32 does not fit the models"):
        monte_carlo(config, "both", "x", (32,))


@pytest.mark.parametrize("model", ["caches", "cache_0.5_0", "main"])
def test_simulation_of_caches_without_main_and_of_stages_by_name(evaluated: Config, model: str) -> None:
    result = monte_carlo(evaluated, model, "x")
    report = pd.read_csv(evaluated.output / "monte_carlo" / f"x_{model}_report.csv").set_index("species")
    if model == "caches":
        assert result["accuracy"]["pooled"] <= 1 - result["communication_rate"]["pooled"]
        assert result["hit_rate_cache_0.5_0"]["pooled"] == pytest.approx(result["saving_rate"]["pooled"])
        left = result["communication_rate"]["pooled"] * 50 * 40
        assert report.loc["(no answer, or none of this data set)", "support"] == pytest.approx(left)
    else:
        small_or_big = monte_carlo(evaluated, {"cache_0.5_0": "small", "main": "big"}[model], "x")
        assert result == {**small_or_big, "model": model}
    assert report.loc["accuracy", "precision"] == pytest.approx(result["accuracy"]["pooled"], abs=1e-5)


def test_simulation_of_a_model_of_another_label_set(evaluated: Config, tmp_path: Path) -> None:
    """Its answers that are no species of this data set are outside, and wrong."""
    colours = {"Bombus terrestris": COLOURS["Apis mellifera"], **COLOURS}
    colours["Apis mellifera"] = (0, 0, 0)  # so every bee is taken for a bumblebee
    path = write_model(tmp_path / "wider.onnx", colours, name="wider", data_hash="another")
    result = monte_carlo(evaluated, str(path), "x")
    assert result["outside_rate"]["mean"] == pytest.approx(12 / 30, abs=0.1)
    assert result["accuracy"]["mean"] == pytest.approx(18 / 30, abs=0.15)
    with pytest.raises(
        ConfigError, match="no model 'huge' to simulate; choose of small, big, both, caches, cache_0.5_0"
    ):
        monte_carlo(evaluated, "huge", "x")
    with pytest.raises(BundleError, match="no model file"):
        monte_carlo(evaluated, str(tmp_path / "no.onnx"), "x")


def test_simulation_draws_from_other_parts_and_by_other_mixes(evaluated: Config) -> None:
    settings = ["monte_carlo.every_species=true", "monte_carlo.mix=uniform", "monte_carlo.split=train"]
    paths = [f"paths.{key}={value}" for key, value in evaluated.paths.model_dump(mode="json").items() if value]
    config = load_config(evaluated.output.parents[1] / "toy.yaml", [*settings, *paths])
    result = monte_carlo(config, "both", "x")
    assert (result["drawn_from"], result["mix"], result["photos"]) == ("train", "uniform", 15)
    assert (config.output / "predictions" / "main.int8.train.parquet").is_file()
    with pytest.raises(DataError, match="4 samples cannot hold each of the 5 species once"):
        monte_carlo(
            load_config(evaluated.output.parents[1] / "toy.yaml", [*settings, *paths, "monte_carlo.samples=4"]),
            "both",
            "y",
        )


def test_names_from_outside_stay_in_the_folder(experiment: Experiment) -> None:
    config = experiment.config()
    monte_carlo(config, "both", "../../evil")
    assert not list(experiment.root.glob("evil*"))
    there = [path.name for path in (config.output / "monte_carlo").iterdir() if path.is_file()]
    assert len(there) == 5
    assert all("evil" in name and os.sep not in name for name in there)
