"""prune.py: pruned models are model folders like any other; the originals stay; what is wrong leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import prune as script
from pipeline.cluster import Engine
from pipeline.compression import pruned, pruning_table
from pipeline.compression.cost import cost
from pipeline.compression.pruned import prune_models
from pipeline.compression.run import quantize_models, trained_models
from pipeline.config import Config
from pipeline.edge.model import Model
from pipeline.errors import ConfigError, ModelError, SomeFailed
from pipeline.files import sha256
from pipeline.models.checkpoint import load_model, read_card
from pipeline.training.run import retrain

from .test_run import COUNTS, configure, hashes, put, run_stages, write_photos

MILLISECONDS = pruning_table.milliseconds
RETRAIN = (
    "prune.retrain.epochs=1", "main.batch_size=8", "main.workers=0", "main.model=test_resnet", "main.recipe.size=32",
)  # fmt: skip


@pytest.fixture(scope="module")
def _master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment with a manifest and a main model."""
    folder = tmp_path_factory.mktemp("experiment")
    write_photos(folder / "photos", COUNTS)
    config = configure(folder)
    run_stages(config, until="manifest")
    put(config, "main", *COUNTS["Insecta"])
    return folder


@pytest.fixture
def make(_master: Path, tmp_path: Path) -> Callable[..., Config]:
    """The test's own copy of the experiment, with overrides."""
    folder = Path(shutil.copytree(_master, tmp_path / "experiment"))
    return lambda *overrides: configure(folder, *RETRAIN, *overrides)


@pytest.fixture(autouse=True)
def _no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Export, which a time in ms needs, takes seconds; one test below does without this."""
    for module in (pruning_table, pruned):
        monkeypatch.setattr(module, "milliseconds", lambda models: [1.0 for _ in models])


def never(config: Config, name: str) -> Path:
    raise AssertionError(f"{name} was retrained")


def macs(folder: Path) -> int:
    network, card = load_model(folder)
    return cost(network, card.recipe.size).macs


def test_each_ratio_makes_a_model_beside_the_untouched_original(make: Callable[..., Config]) -> None:
    config = make("prune.ratios=[0.25, 0.5]")
    before = hashes(config.models / "main")
    folders = prune_models(config, [], never, last=False)
    assert [folder.name for folder in folders] == ["main_p25", "main_p50"]
    after = hashes(config.models / "main")
    assert {name: after[name] for name in before} == before
    assert macs(folders[1]) < macs(folders[0]) < macs(config.models / "main")
    original, card = read_card(config.models / "main"), read_card(folders[1])
    assert (card.name, card.role, card.labels, card.recipe) == ("main_p50", "main", original.labels, original.recipe)
    [step] = card.pruning
    assert step["unpruned"] == step["from"] == "main"
    assert step["ratio"] == 0.5
    assert step["settings"]["from"] == original.weights_sha256
    network, _ = load_model(folders[1])
    assert sum(p.numel() for p in network.parameters()) == cost(network, 32).parameters


def test_table_shows_before_and_after(make: Callable[..., Config], lines: Callable[[], list[str]]) -> None:
    config = make()
    prune_models(config, ["main"], never, last=False)
    table = pd.read_csv(config.output / "pruning.csv")
    assert table["model"].tolist() == ["main", "main_p50"]
    assert table["unpruned"].tolist() == ["main", "main"]
    for column in ("macs", "parameters", "peak_bytes", "activation_bytes", "weights_bytes"):
        assert table[column][1] < table[column][0], column
    assert table["val_accuracy"].between(0, 1).all()
    assert table["macs"][0] == macs(config.models / "main")
    told = json.loads((config.output / "pruning.json").read_text())
    assert [row["model"] for row in told["models"]] == ["main", "main_p50"]
    assert told["split"] == "val"
    said = lines()
    assert any(line.startswith("prune     main_p50: ") and "channels of" in line for line in said)
    assert sum("M MACs" in line and "macro F1" in line for line in said) == 2


def test_all_times_of_the_table_are_of_one_run(make: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured again, all of them, when a model comes or changes; and not while they are the same."""
    runs = iter(range(9))

    def clock(models: Iterable[Any]) -> list[float]:
        run = next(runs)
        return [10.0 * run + i for i, _ in enumerate(models)]

    monkeypatch.setattr(pruning_table, "milliseconds", clock)
    config = make()

    def told(*ratios: float) -> list[float]:
        settings = config.prune.model_copy(update={"ratios": list(ratios)})
        prune_models(config.model_copy(update={"prune": settings}), ["main"], never, last=False)
        found: list[float] = pd.read_csv(config.output / "pruning.csv")["ms"].tolist()
        return found

    assert [told(0.5), told(0.5), told(0.25, 0.5)] == [[0, 1], [0, 1], [10, 11, 12]]


def test_pruned_model_is_exported_and_quantized(make: Callable[..., Config]) -> None:
    config = make()
    [folder] = prune_models(config, ["main"], never, last=False)
    quantize_models(config, ["main_p50"])
    model = Model(folder / "model.int8.onnx")
    assert model.card["name"] == "main_p50"
    assert model.card["pruning"] == json.loads((folder / "model.json").read_text())["pruning"]


def test_time_of_one_photo(make: Callable[..., Config]) -> None:
    network, card = load_model(make().models / "main")
    assert all(0.01 < ms < 1000 for ms in MILLISECONDS([(network, card), (network, card)]))


def test_what_is_up_to_date_is_skipped(make: Callable[..., Config], lines: Callable[[], list[str]]) -> None:
    config = make()
    [folder] = prune_models(config, [], never, last=False)
    before = hashes(folder)
    lines()
    prune_models(config, [], never, last=False)
    assert lines()[:4] == [
        "prune     main_p50 up to date",
        "measure   ms of 2 models up to date",
        "measure   main up to date",
        "measure   main_p50 up to date",
    ]
    assert hashes(folder) == before


def test_same_settings_give_the_same_network(make: Callable[..., Config]) -> None:
    for importance in ("taylor", "deadness"):
        config = make(f"prune.importance={importance}")
        [folder] = prune_models(config, ["main"], never, last=False)
        assert folder.name == f"main_p50_{importance}"
        first = sha256(folder / "weights.safetensors")
        prune_models(make(f"prune.importance={importance}", "global.overwrite=true"), ["main"], never, last=False)
        assert sha256(folder / "weights.safetensors") == first
        assert read_card(folder).pruning[0]["settings"]["photos"] == 256


def test_other_settings_do_not_go_over_what_is_there(make: Callable[..., Config]) -> None:
    [folder] = prune_models(make(), ["main"], never, last=False)
    before = hashes(folder)
    with pytest.raises(ModelError, match=r"main_p50 was made with other settings.*--set global\.overwrite=true"):
        prune_models(make("prune.round_to=4"), ["main"], never, last=False)
    assert hashes(folder) == before
    prune_models(make("prune.round_to=4", "global.overwrite=true"), ["main"], never, last=False)
    assert hashes(folder) != before


@pytest.mark.parametrize(("what", "name"), [("macs", "main_macs60"), ("params", "main_params60")])
def test_targets_are_shares_of_the_original(make: Callable[..., Config], what: str, name: str) -> None:
    config = make(f"prune.{what}=0.6", "prune.scope=layer")
    [folder] = prune_models(config, ["main"], never, last=False)
    assert folder.name == f"{name}_layer"
    whole, left = (cost(load_model(config.models / model)[0], 32) for model in ("main", folder.name))
    key = "macs" if what == "macs" else "parameters"
    assert 0.4 * getattr(whole, key) < getattr(left, key) <= 0.6 * getattr(whole, key)


def test_target_in_milliseconds(make: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        pruned, "milliseconds", lambda models: [cost(network, card.recipe.size).macs / 1e6 for network, card in models]
    )
    config = make("prune.ms=2.5")
    [folder] = prune_models(config, ["main"], never, last=False)
    assert folder.name == "main_ms2.5"
    assert macs(folder) <= 2.5e6 < macs(config.models / "main")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("prune.macs=0.0001", "the target of .* MACs cannot be met: from .* it went down to"),
        ("prune.ms=5", "main meets the target of 5 ms as it is; nothing to prune"),
        ("prune.layers={fc: 0.5}", "prune.layers names fc, which cannot be pruned: it is the classifier"),
        ("prune.layers={nonsense: 0.5}", "no layer fits 'nonsense'"),
        ("prune.ratios=[0.001]", "ratio 0.001 takes no channel away"),
        ("prune.layers={layer1.0.conv1: 0.99}", "ratio 0.99 would leave no channel in layer1.0.conv1"),
    ],
)
def test_what_cannot_be_done_leaves_nothing_behind(make: Callable[..., Config], override: str, words: str) -> None:
    config = make(override)
    before = hashes(config.models / "main")
    with pytest.raises(ModelError, match=words):
        prune_models(config, ["main"], never, last=False)
    assert [path.name for path in config.models.iterdir()] == ["main"]
    assert hashes(config.models / "main") == before
    assert not (config.output / "pruning.csv").exists()


def test_one_that_fails_stops_no_other(make: Callable[..., Config], lines: Callable[[], list[str]]) -> None:
    config = make("prune.ratios=[0.001, 0.5]")
    with pytest.raises(
        SomeFailed, match=r"1 of 2 could not be made, main_p0.1: ratio 0.001 takes no channel away"
    ) as end:
        prune_models(config, ["main"], never, last=False)
    assert end.value.exit_code == 3
    assert any(line.startswith("prune     main_p0.1 failed: ratio 0.001") for line in lines())
    table = pd.read_csv(config.output / "pruning.csv")
    assert table["model"].tolist() == ["main", "main_p50", "main_p0.1"]
    assert table["error"].notna().tolist() == [False, False, True]
    assert (table["aim"][2], table["value"][2]) == ("ratio", 0.001)


@pytest.mark.skipif("OMMATIDIA_RAY" not in os.environ, reason="OMMATIDIA_RAY is not set")
def test_the_table_of_ray_is_that_of_one_machine(make: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[1]))  # where Ray's workers find `never`
    config = make("prune.ratios=[0.001, 0.25, 0.5]")
    tables = []
    for engine in (Engine("ray"), Engine()):
        with pytest.raises(SomeFailed):
            prune_models(config, ["main"], never, False, engine)
        tables.append(pd.read_csv(config.output / "pruning.csv"))
        shutil.rmtree(config.models / "main_p50")
    pd.testing.assert_frame_equal(*tables)


def test_milliseconds_are_not_measured_beside_other_tasks(make: Callable[..., Config]) -> None:
    with pytest.raises(ConfigError, match="prune.ms times networks"):
        prune_models(make("prune.ms=5"), ["main"], never, False, Engine("ray"))


def test_model_of_another_manifest_is_refused(make: Callable[..., Config]) -> None:
    config = make()
    put(config, "main", *COUNTS["Insecta"], data_hash="000000000000")
    with pytest.raises(ModelError, match="main was trained on manifest 000000000000, this one is"):
        prune_models(config, ["main"], never, last=False)


# retraining ---------------------------------------------------------------------------------------------------------


def test_pruned_model_is_trained_on_and_learns_from_the_unpruned_one(make: Callable[..., Config]) -> None:
    config = make()
    [folder] = prune_models(config, ["main"], retrain, last=True)
    assert folder.name == "main_p50_retrained"
    card, pruned = read_card(folder), read_card(config.models / "main_p50")
    assert card.pruning == pruned.pruning
    assert card.pretrained == "main_p50"
    assert card.training["finished"]
    assert card.training["settings"]["distill"] == {"teacher": "main"}
    assert card.weights_sha256 != pruned.weights_sha256
    assert 0 <= card.metrics["val_acc"] <= 1
    ours, theirs = load_model(folder)[0].state_dict(), load_model(config.models / "main_p50")[0].state_dict()
    assert {key: tensor.shape for key, tensor in ours.items()} == {key: tensor.shape for key, tensor in theirs.items()}
    assert sorted(pd.read_csv(config.output / "pruning.csv")["model"]) == ["main", "main_p50", "main_p50_retrained"]
    assert len(trained_models(config)) == 3


def test_killed_retraining_goes_on_to_the_same_end(
    make: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make("prune.retrain.epochs=2")
    prune_models(config, ["main"], never, last=False)
    torch.manual_seed(0)
    whole = load_model(retrain(config, "main_p50"))[0].state_dict()
    shutil.rmtree(config.models / "main_p50_retrained")
    import pipeline.training.loop as loop

    def killed(*arguments: Any) -> None:
        saved(*arguments)
        raise KeyboardInterrupt

    saved = loop.save_last
    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_last", killed)
        with pytest.raises(KeyboardInterrupt):
            retrain(config, "main_p50")
    again = load_model(retrain(config, "main_p50"))[0].state_dict()
    assert all(torch.equal(whole[key], tensor) for key, tensor in again.items())


def test_steps_prune_and_retrain_in_turn(make: Callable[..., Config]) -> None:
    config = make("prune.macs=0.5", "prune.steps=2", "prune.scope=layer")
    [folder] = prune_models(config, ["main"], retrain, last=False)
    assert folder.name == "main_macs50_layer"
    names = sorted(path.name for path in config.models.iterdir())
    assert names == ["main", "main_macs50_layer", "main_macs50_layer_step1", "main_macs50_layer_step1_retrained"]
    first, second = read_card(folder).pruning
    assert (first["unpruned"], first["from"]) == ("main", "main")
    assert (second["unpruned"], second["from"]) == ("main", "main_macs50_layer_step1_retrained")
    whole = macs(config.models / "main")
    assert macs(folder) <= 0.5 * whole < macs(config.models / "main_macs50_layer_step1") <= 0.5**0.5 * whole
    assert torch.isfinite(load_model(folder)[0](torch.zeros(1, 3, 32, 32))).all()


def test_ratios_of_single_layers_are_spread_over_the_steps(make: Callable[..., Config]) -> None:
    config = make("prune.steps=2", "prune.layers={layer1.0.conv1: 0.75}")
    [folder] = prune_models(config, ["main"], retrain, last=False)
    network, _ = load_model(folder)
    layer: Any = network.get_submodule("layer1.0.conv1")
    assert layer.out_channels == 8  # of 32


def test_only_pruned_models_are_retrained(make: Callable[..., Config]) -> None:
    with pytest.raises(ModelError, match=r"main is not pruned; run prune\.py first, or train it anew: train\.py main"):
        retrain(make(), "main")


# the script ---------------------------------------------------------------------------------------------------------


def test_script(make: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    config = make()
    yaml = str(config.models.parents[1] / "tiny.yaml")
    monkeypatch.setattr(sys, "argv", ["prune.py", "--config", yaml, "--model", "main", "--ratios", ".25", ".5"])
    assert script.main() == 0
    assert {path.name for path in config.models.iterdir()} == {"main", "main_p25", "main_p50"}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--ratios", "1.0"], 2, "ratio 1 would leave no channel"),
        (["--ratios", "0"], 2, "ratio 0 would leave every channel"),
        (["--macs", "0.5", "--params", "0.5"], 2, "targets of their own; give one"),
        (["--macs", "1.5"], 2, "prune.macs (is 1.5)"),
        (["--importance", "l3"], 2, "prune.importance (is 'l3')"),
        (["--model", "nothing"], 1, "no trained model in"),
    ],
)
def test_script_says_what_is_wrong(
    make: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: list[str], code: int, words: str,
) -> None:  # fmt: skip
    yaml = str(make().models.parents[1] / "tiny.yaml")
    monkeypatch.setattr(sys, "argv", ["prune.py", "--config", yaml, *arguments])
    assert script.main() == code
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
