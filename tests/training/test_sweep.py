"""A sweep: every combination is an experiment of its own, and one that fails stops no other."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

from pipeline.cluster import Engine
from pipeline.config import Config, load_config
from pipeline.errors import ConfigError, ModelError
from pipeline.files import write_json, write_text
from pipeline.models.registry import build, resolve
from pipeline.sweep import evaluate_members, expand, train_members

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = sorted([*ROOT.glob("configs/*.yaml"), ROOT / "config.yaml"])
Toy = Callable[..., Config]
QUICK = ("main.epochs=1", "cache.epochs=1", "main.warmup_epochs=0", "cache.warmup_epochs=0", "experiment=base")


def test_every_combination_is_a_member_on_the_same_data(toy: Toy) -> None:
    config = toy(*QUICK, "sweep={cache.threshold: [0.5, 0.85], cache.start_ranks: [[0], [0, 1]]}")
    members = expand(config)
    assert list(members) == [
        "base-threshold_0.5-start_ranks_[0]", "base-threshold_0.5-start_ranks_[0, 1]",
        "base-threshold_0.85-start_ranks_[0]", "base-threshold_0.85-start_ranks_[0, 1]",
    ]  # fmt: skip
    for name, (member, values) in members.items():
        assert member.experiment == name
        assert member.dataset_dir == config.dataset_dir
        assert (member.cache.threshold, member.cache.start_ranks) == tuple(values.values())


@pytest.mark.parametrize("path", [path for path in SHIPPED if load_config(path).sweep], ids=lambda path: path.stem)
def test_members_of_a_shipped_sweep_have_no_window_counted_for_another_threshold_and_build(path: Path) -> None:
    for member, _ in expand(load_config(path)).values():
        assert member.cache.start_ranks == [0]
        with torch.device("meta"):
            for training in (member.main, member.cache):
                arguments = resolve(training.model, training.recipe.size, training.arguments)
                assert any(True for _ in build(training.model, 5, arguments).parameters())


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ("{}", "the section sweep is empty; give it keys with lists"),
        ("{train_val_split.dominant_threshold: [0.5]}", "all members share the data set; sweep over main, cache"),
        ("{cache.threshold: [0.5, 1.5]}", "cache.threshold .is 1.5.: Input should be less than 1"),
        ("{cache.treshold: [0.5]}", "unknown key cache.treshold; did you mean threshold"),
        ("{cache.threshold: [0.5, 0.5]}", "two members of the sweep have the same name"),
    ],
)
def test_wrong_sweep_is_refused_before_anything_is_trained(toy: Toy, sweep: str, message: str) -> None:
    config = toy(*QUICK, f"sweep={sweep}")
    with pytest.raises(ConfigError, match=message):
        train_members(config)
    assert not config.models.exists()


def test_members_share_main_and_a_failed_one_stops_no_other(toy: Toy, lines: Callable[[], list[str]]) -> None:
    config = toy(*QUICK, "sweep={cache.model: [test_resnt, test_resnet], cache.threshold: [0.5, 0.85]}")
    assert train_members(config) == 3
    table = pd.read_csv(config.output / "sweep_train.csv")
    assert table["experiment"].nunique() == 4
    assert table["error"].str.contains("no model 'test_resnt'; did you mean test_resnet").sum() == 2
    trained = table[table["error"].isna()]
    assert trained["model"].tolist() == ["main", "cache_0.5_0", "main", "cache_0.85_0"]
    assert trained["labels"].tolist() == [4, 3, 4, 4]
    assert trained["val_macro_f1"].between(0, 1).all()
    assert sum("main epoch 1/1" in line for line in lines()) == 1
    assert train_members(config) == 3  # trained members are up to date, failed ones are tried again
    assert not any("epoch 1/1" in line for line in lines())


def test_sweep_of_which_every_member_fails_has_failed(toy: Toy) -> None:
    config = toy(*QUICK, "sweep={cache.model: [test_resnt], cache.threshold: [0.5, 0.85]}")
    with pytest.raises(ModelError, match="no model 'test_resnt'"):
        train_members(config)
    assert len(pd.read_csv(config.output / "sweep_train.csv")["error"].dropna()) == 2


def test_sweep_over_main_trains_main_in_every_member(toy: Toy, lines: Callable[[], list[str]]) -> None:
    config = toy(*QUICK, "sweep={main.lr: [0.001, 0.002]}")
    assert train_members(config) == 0
    assert sum("main epoch 1/1" in line for line in lines()) == 2
    assert not (config.models / "main").exists()


def test_evaluation_of_members_is_one_table(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    config = toy(*QUICK, "sweep={cache.threshold: [0.5, 0.6, 0.85]}")
    assert train_members(config) == 0
    quantized: list[tuple[str, list[str] | None]] = []

    def evaluated(member: Config) -> int:
        if member.cache_threshold == 0.6:
            raise RuntimeError("out of memory")  # as torch says it
        models = {name: {"int8": {"accuracy": 0.5, "macro_f1": 0.4}} for name in ("main", member.cache_name(0))}
        cascade = {"int8": {"accuracy": member.cache_threshold, "macro_f1": 0.3, "communication_rate": 0.7}}
        write_json(member.output / "metrics.json", {"models": models, "cascade": cascade})
        return 0

    monkeypatch.setattr("pipeline.sweep.quantize_models", lambda c, names=None: quantized.append((c.experiment, names)))
    monkeypatch.setattr("pipeline.sweep.evaluate", evaluated)
    assert evaluate_members(config) == 3
    assert quantized[0] == ("base", ["main"])
    table = pd.read_csv(config.output / "sweep_eval.csv")
    cascades = table[table["model"] == "cascade"]
    assert cascades["accuracy"].tolist() == [0.5, 0.85]
    assert cascades["communication_rate"].tolist() == [0.7, 0.7]
    assert table["error"].dropna().tolist() == ["out of memory"]
    assert cascades["cache.threshold"].tolist() == [0.5, 0.85]


@pytest.mark.skipif("OMMATIDIA_RAY" not in os.environ, reason="OMMATIDIA_RAY is not set")
def test_the_table_of_ray_is_that_of_one_machine(toy: Toy) -> None:
    config = toy(*QUICK, "sweep={cache.model: [test_resnt, test_resnet], cache.threshold: [0.5, 0.85]}")
    tables = []
    for engine in (Engine("ray"), Engine()):
        assert train_members(config, engine) == 3
        tables.append((config.output / "sweep_train.csv").read_text(encoding="utf-8"))
        shutil.rmtree(config.paths.models_dir)
    assert tables[0] == tables[1]


def test_shared_main_is_the_same_file(toy: Toy) -> None:
    config = toy(*QUICK, "sweep={cache.threshold: [0.5]}")
    assert train_members(config) == 0
    (name,) = expand(config)
    base, member = (config.paths.models_dir / experiment / "main" for experiment in ("base", name))
    assert (member / "weights.safetensors").samefile(base / "weights.safetensors")
    (member / "model.int8.onnx").write_text("of the member's own settings")
    assert train_members(config) == 0
    assert (member / "model.int8.onnx").is_file()
    write_text(base / "model.json", (base / "model.json").read_text() + "\n")  # as if it were trained anew
    assert train_members(config) == 0
    assert not (member / "model.int8.onnx").exists()


def test_a_shared_main_is_trained_anew_once_for_all(toy: Toy, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="ommatidia"):
        train_members(toy(*QUICK, "global.overwrite=true", "sweep={cache.threshold: [0.5, 0.85]}"))
    assert sum("main: " in line and "photos to learn from" in line for line in caplog.messages) == 1


def test_what_no_member_does_is_no_key_of_a_sweep(toy: Toy) -> None:
    with pytest.raises(ConfigError, match="sweep.monte_carlo.runs: all members share the data set"):
        expand(toy(*QUICK, "sweep={monte_carlo.runs: [3, 5]}"))


def test_members_of_a_sweep_over_pruning_are_pruned_trained_on_and_judged(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch_pruning")
    config = toy(*QUICK, "prune.retrain.epochs=1", "prune.round_to=1", "sweep={prune.ratios: [[0.5]]}")
    assert train_members(config) == 0
    names = ["main", "cache_0.5_0", "main_p50_retrained", "cache_0.5_0_p50_retrained"]
    assert pd.read_csv(config.output / "sweep_train.csv")["model"].tolist() == names
    judged: list[list[str]] = []

    def evaluated(member: Config) -> int:
        judged.append(member.route.stages)
        figures = {"int8": {"accuracy": 0.5, "macro_f1": 0.4}}
        write_json(member.output / "metrics.json", {"models": {"main_p50_retrained": figures}, "cascade": figures})
        return 0

    monkeypatch.setattr("pipeline.sweep.quantize_models", lambda c, names=None: judged.append(names))
    monkeypatch.setattr("pipeline.sweep.evaluate", evaluated)
    assert evaluate_members(config) == 0
    assert judged == [["main"], *2 * [["cache_0.5_0_p50_retrained", "main_p50_retrained"]]]
    with pytest.raises(ConfigError, match="a member of a sweep is pruned in one way; list ratios alone"):
        expand(toy(*QUICK, "sweep={prune.ratios: [[0.3, 0.5]]}"))
