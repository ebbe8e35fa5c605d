"""cost.py: totals of every model, layers, shapes side by side, and the heat map over levels of pruning."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

import cost as script
from pipeline.compression.cost import cost, layers
from pipeline.compression.cost_report import heat_map, report
from pipeline.config import Config, load_config
from pipeline.edge.recipe import Recipe
from pipeline.labels import LabelSpace
from pipeline.models.checkpoint import ModelCard, load_model, save_model
from pipeline.models.registry import build
from pipeline.models.surgery import replay

LABELS = LabelSpace(("a", "b", "Other"))


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """An experiment with a model and two pruned ones; neither photos nor a manifest."""
    yaml = tmp_path / "tiny.yaml"
    yaml.write_text(json.dumps({"paths": {key: str(tmp_path / key) for key in ("output_dir", "models_dir")}}))
    config = load_config(yaml)
    for name, channels in (("main", 0), ("main_p05", 2), ("main_p50", 16)):
        torch.manual_seed(0)
        network = build("test_resnet", 3)
        history = [{"unpruned": "main", "removed": [["layer1.0.conv1", list(range(channels))]]}] if channels else []
        replay(network, 32, history)
        card = ModelCard(name, "main", "test_resnet", {}, LABELS, Recipe(size=32), "0", 0, pruning=history)
        save_model(config.models / name, network, card)
    return config


def test_totals_of_all_models(config: Config, lines: Callable[[], list[str]]) -> None:
    report(config, [])
    told = json.loads((config.output / "cost" / "cost.json").read_text())["models"]
    assert [row["model"] for row in told] == ["main", "main_p05", "main_p50"]
    network, _ = load_model(config.models / "main_p50")
    found = cost(network, 32)
    assert (told[2]["macs"], told[2]["parameters"]) == (found.macs, found.parameters)
    assert told[2]["macs"] < told[1]["macs"] < told[0]["macs"]
    said = lines()
    assert sum(line.startswith("cost      main") and "M MACs" in line for line in said) == 3
    assert not any("BatchNorm" in line for line in said)
    table = pd.read_csv(config.output / "cost" / "layers_main.csv", keep_default_na=False)
    assert table["macs"].sum() == told[0]["macs"]
    assert {path.name for path in (config.output / "cost").iterdir()} == {
        "cost.json", "feature_maps_main.png", "layers_main.csv", "layers_main_p05.csv", "layers_main_p50.csv",
    }  # fmt: skip


def test_layers_and_shapes_of_two_models(config: Config, lines: Callable[[], list[str]]) -> None:
    report(config, ["main", "main_p50"])
    said = "\n".join(lines())
    assert "layer1.0.conv1" in said
    assert "32x32x3x3" in said
    assert "16x32x3x3" in said
    table = pd.read_csv(config.output / "cost" / "shapes_main_main_p50.csv").set_index("layer")
    assert table.loc["layer1.0.conv1", "kept"] == 0.5
    assert table.loc["layer1.0.conv2", "second"] == "(32, 16, 3, 3)"
    assert f"{(table['kept'] == 1).sum()} of {len(table)} layers have the same shape in both" in said


def test_heat_map_shows_every_map_of_every_level_once(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr("pipeline.compression.cost_report.save", lambda figure, path: figures.append(figure))
    tables = {name: layers(load_model(config.models / name)[0], 32) for name in ("main", "main_p05", "main_p50")}
    heat_map(tables, "main", Path("unused.png"))
    axes = figures[0].axes[0]
    made = tables["main"].query("bytes > 0").groupby(["layer", "operator"]).ngroups
    assert len(axes.get_yticks()) == made
    assert len(axes.texts) == 3 * made
    ticks = [label.get_text() for label in axes.get_xticklabels()]
    assert [tick.splitlines()[0] for tick in ticks] == ["unpruned", "p05", "p50"]
    total = sum(float(text.get_text().replace(",", "")) for text in axes.texts if text.get_position()[0] == 0)
    assert total == pytest.approx(cost(load_model(config.models / "main")[0], 32).activation_bytes / 1e3, rel=0.01)
    plt.close(figures[0])


@pytest.mark.parametrize(("arguments", "code"), [(["--model", "main"], 0), (["--model", "nothing"], 1)])
def test_script(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: Any, code: int
) -> None:
    yaml = config.output.parents[1] / "tiny.yaml"
    monkeypatch.setattr(sys, "argv", ["cost.py", "--config", str(yaml), *arguments])
    assert script.main() == code
    assert ("error: no trained model in" in capsys.readouterr().err) == (code == 1)
