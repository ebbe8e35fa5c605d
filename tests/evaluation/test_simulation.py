"""Simulated days of an experiment, whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from toy import COLOURS, RECIPE, Experiment, write_model

from pipeline.config import Config, load_config, override
from pipeline.dataset.manifest import read_manifest
from pipeline.edge.errors import BundleError
from pipeline.errors import ConfigError, DataError
from pipeline.evaluation.run import evaluate
from pipeline.evaluation.simulation.simulation import monte_carlo

from .files import files, read

Lines = Callable[[], list[str]]


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


def test_there_are_no_caches_to_simulate(evaluated: Config) -> None:
    alone = override(evaluated, {"route.stages": ["main"]})
    for model in ("caches", "small"):
        with pytest.raises(ConfigError, match="there is no cache before main to simulate alone; see route.stages"):
            monte_carlo(alone, model, "none")


def test_a_cascade_without_main_is_its_caches_and_sends_on_what_they_do_not_know(evaluated: Config) -> None:
    config = override(evaluated, {"route.stages": ["cache_0.5_0"], "route.threshold": 0.5})
    with pytest.raises(ConfigError, match="there is no main to simulate alone; see route.stages"):
        monte_carlo(config, "big", "none")
    both, caches = (monte_carlo(config, model, "none") for model in ("both", "caches"))
    assert both == {**caches, "model": "both"}
    assert both["communication_rate"]["pooled"] > 0
    evaluate(config)
    told = read(config.output / "metrics.json")["cascade"]["int8"]
    for name in ("communication_rate", "saving_rate"):
        assert both[name]["pooled"] == pytest.approx(told[name], abs=0.05)
    assert 0 < told["saving_rate"] == told["stages"][0]["hit_rate"] < 1
    assert both["accuracy"]["pooled"] <= both["saving_rate"]["pooled"] < 1
    assert both["storage"]["looked_at"]["mean"] > both["storage"]["kept"]


def test_one_run_tells_no_certainty(evaluated: Config, lines: Lines) -> None:
    result = monte_carlo(override(evaluated, {"monte_carlo.runs": 1}), "both", "one")
    for name in ("mean_95", "sd", "low_95", "high_95"):
        assert result["accuracy"][name] is None
    assert result["runs_enough"]["accuracy"] is None
    assert any(line.startswith("  accuracy") and line.endswith(", one run") for line in lines())


def test_photos_that_are_gone_have_no_size_and_fill_nothing_known(evaluated: Config) -> None:
    for photo in evaluated.paths.dst_dataset.rglob("*.png"):
        photo.unlink()
    assert monte_carlo(evaluated, "both", "gone")["storage"] is None
    told = monte_carlo(override(evaluated, {"monte_carlo.photo_kb": 5.0}), "both", "given")["storage"]
    assert told["photo_kb"] == 5


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
    assert (result["precision"], evaluated.route.precision) == ("fp32", "int8")  # the file's own
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
    assert result["settings"] == config.monte_carlo.model_dump(mode="json")
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
