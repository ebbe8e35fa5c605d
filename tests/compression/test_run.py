"""quantize.py: every trained model of an experiment to fp32 and int8 files, with a report of the cost."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import write_photos

import quantize as script
from pipeline.compression.formats import torchscript
from pipeline.compression.run import load_photos, quantize_models, trained_models
from pipeline.config import Config, load_config
from pipeline.dataset.manifest import read_manifest
from pipeline.dataset.stages import run_stages
from pipeline.edge.model import Model
from pipeline.edge.recipe import Recipe
from pipeline.errors import DataError, ModelError
from pipeline.files import read_json, sha256
from pipeline.labels import LabelSpace
from pipeline.models.checkpoint import ModelCard, load_model, save_model
from pipeline.models.deployable import Deployable
from pipeline.models.registry import build

COUNTS = {"Insecta": {"Apis mellifera": 16, "Pieris rapae": 10, "Vanessa atalanta": 8}}
FILES = [
    "export.json", "model.int8.onnx", "model.json", "model.onnx", "quantization_layers.csv",
    "quantization_report.json", "weights.safetensors",
]  # fmt: skip


def configure(folder: Path, *overrides: str) -> Config:
    paths = {
        "src_dataset": str(folder / "photos"), "dst_dataset": str(folder / "regional"),
        "output_dir": str(folder / "output"), "models_dir": str(folder / "models"),
    }  # fmt: skip
    data = {
        "experiment": "tiny", "paths": paths, "global": {"included_classes": ["Insecta"]}, "dataset": {"workers": 1},
        "train_val_split": {"train_size": 0.6, "val_size": 0.2},
        "quantize": {"calibration_images": 16, "parity_images": 4},
    }  # fmt: skip
    (folder / "tiny.yaml").write_text(json.dumps(data))
    return load_config(folder / "tiny.yaml", overrides)


def put(config: Config, name: str, *names: str, seed: int = 0, data_hash: str | None = None) -> Path:
    """A model folder, as train.py leaves it."""
    manifest = read_manifest(config.dataset_dir, config.paths.dst_dataset)
    cache = names[-1] == "Other"
    card = ModelCard(
        name, "cache" if cache else "main", "test_resnet", {}, LabelSpace(names), Recipe(size=32, crop=1.0),
        data_hash or manifest.hash, 0, window=(int(name[-1]), len(names) - 1) if cache else None,
        training={"fingerprint": "f", "epoch": 2, "finished": True, "settings": {"lr": 0.1}},
    )  # fmt: skip
    torch.manual_seed(seed)
    network = build("test_resnet", len(names))
    with torch.no_grad():
        for _ in range(10):  # running statistics of real photos
            planes = torch.from_numpy(load_photos(manifest, manifest.part("train"), card.recipe)).permute(0, 3, 1, 2)
            network.train()(planes / 127.5 - 1)
    save_model(config.models / name, network, card)
    return config.models / name


@pytest.fixture(scope="module")
def _master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment with a manifest, a main model and a cache, both exported and quantized."""
    folder = tmp_path_factory.mktemp("experiment")
    write_photos(folder / "photos", COUNTS)
    config = configure(folder, "train_val_split.dominant_threshold=0.5")
    run_stages(config, until="manifest")
    put(config, "main", *COUNTS["Insecta"])
    put(config, "cache_0.5_0", "Apis mellifera", "Other")
    quantize_models(config)
    return folder


@pytest.fixture
def experiment(_master: Path, tmp_path: Path) -> Path:
    """The test's own copy of the experiment."""
    return Path(shutil.copytree(_master, tmp_path / "experiment"))


@pytest.fixture
def config(experiment: Path) -> Config:
    return configure(experiment)


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path) for path in folder.iterdir() if path.is_file()}


def test_each_model_gets_both_files_and_a_report(config: Config) -> None:
    for name in ("main", "cache_0.5_0"):
        folder = config.models / name
        assert sorted(hashes(folder)) == FILES
        exported, report = (json.loads((folder / f"{n}.json").read_text()) for n in ("export", "quantization_report"))
        assert exported["model"] == report["model"] == name
        assert (exported["parity"]["photos"], exported["batch"]) == (4, "dynamic")
        assert exported["parity"]["max_logit_difference"] <= 1e-3
        assert report["settings"]["calibration_images"] == 16
        for precision, file in (("fp32", "model.onnx"), ("int8", "model.int8.onnx")):
            assert report["bytes"][precision] == (folder / file).stat().st_size
        layers = pd.read_csv(folder / "quantization_layers.csv")
        assert len(layers) == report["layers"]["total"]
        assert layers["name"].tolist()[:10] == [layer["name"] for layer in report["worst_layers"]]
        assert set(layers["name"][layers["precision"] == "fp32"]) == set(report["layers"]["float"])


def test_report_counts_right_answers_on_val(config: Config) -> None:
    manifest = read_manifest(config.dataset_dir, config.paths.dst_dataset)
    val = manifest.part("val")
    for name in ("main", "cache_0.5_0"):
        network, card = load_model(config.models / name)
        given = load_photos(manifest, val, card.recipe)
        with torch.inference_mode():
            torchs = Deployable(network, card.recipe)(torch.from_numpy(given)).numpy()
        answers = {
            precision: Model(config.models / name / file).logits(given).argmax(1)
            for precision, file in (("fp32", "model.onnx"), ("int8", "model.int8.onnx"))
        }
        truth = card.labels.ids(val["species"].tolist())
        report = json.loads((config.models / name / "quantization_report.json").read_text())["val"]
        assert report["photos"] == len(val) >= 5
        assert np.array_equal(answers["fp32"], torchs.argmax(1))
        assert report["agreement"] == pytest.approx((answers["fp32"] == answers["int8"]).mean())
        for precision, best in answers.items():
            assert report[precision]["accuracy"] == pytest.approx((best == truth).mean())


def test_card_in_the_file_tells_the_training_without_its_settings(config: Config) -> None:
    model = Model(config.models / "main" / "model.int8.onnx")
    assert model.card["training"] == {"fingerprint": "f", "epoch": 2}
    assert model.card["data_hash"] == read_manifest(config.dataset_dir, config.paths.dst_dataset).hash
    assert model.card["weights_sha256"] == sha256(config.models / "main" / "weights.safetensors")


def test_failed_quantization_leaves_all_earlier_files(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    before = hashes(config.models / "main")

    def fail(*given: object) -> None:
        raise ModelError("no")

    monkeypatch.setattr("pipeline.compression.run.search", fail)
    with pytest.raises(ModelError, match="no"):
        quantize_models(config_again(config), ["main"])
    assert hashes(config.models / "main") == before
    assert not list((config.models / "main").glob(".quantize*"))


def test_other_formats_say_the_same(experiment: Path, lines: Callable[[], list[str]]) -> None:
    config = configure(experiment, "export.formats=[torchscript,triton]")
    for _ in range(2):
        quantize_models(config, ["main"])
    assert lines() == 2 * ["quantize  main up to date"] + [
        f"quantize  main as {name} up to date" for name in ("torchscript", "triton")
    ]
    manifest = read_manifest(config.dataset_dir, config.paths.dst_dataset)
    exported = Model(config.models / "main" / "model.onnx")
    some = load_photos(manifest, manifest.part("val"), exported.recipe)
    card = {"ommatidia": ""}
    traced = torch.jit.load(str(config.models / "main" / "model.torchscript.pt"), _extra_files=card)
    assert np.abs(traced(torch.from_numpy(some)).detach().numpy() - exported.logits(some)).max() < 1e-3
    assert json.loads(card["ommatidia"])["labels"] == list(exported.labels)
    repository = config.output / "triton" / "main"
    assert sha256(repository / "1" / "model.onnx") == sha256(config.models / "main" / "model.onnx")
    assert (repository / "labels.txt").read_text().splitlines() == list(exported.labels)
    assert (repository / "config.pbtxt").read_text() == (
        'name: "main"\nbackend: "onnxruntime"\nmax_batch_size: 32\n'
        'input [ { name: "input", data_type: TYPE_UINT8, dims: [32, 32, 3] } ]\n'
        'output [ { name: "output", data_type: TYPE_FP32, dims: [3], label_filename: "labels.txt" } ]\n'
    )


def test_fixed_batch(experiment: Path) -> None:
    config = configure(experiment, "export.batch=1", "export.formats=[triton]")
    quantize_models(config, ["cache_0.5_0"])
    for file in ("model.onnx", "model.int8.onnx"):
        assert Model(config.models / "cache_0.5_0" / file).session.get_inputs()[0].shape == [1, 32, 32, 3]
    triton = (config.output / "triton" / "cache_0.5_0" / "config.pbtxt").read_text()
    assert "max_batch_size: 0" in triton
    assert "dims: [1, 32, 32, 3]" in triton


def test_int8_that_costs_too_much_is_said(
    experiment: Path, monkeypatch: pytest.MonkeyPatch, lines: Callable[[], list[str]]
) -> None:
    def costly(*given: object) -> dict[str, object]:
        scores = {"accuracy": 0.5, "macro_f1": 0.5}
        return {"photos": 5, "fp32": scores, "int8": scores, "accuracy_drop": 0.4, "agreement": 0.6}

    monkeypatch.setattr("pipeline.compression.run.compare", costly)
    quantize_models(config_again(configure(experiment)), ["main"])
    warning = (
        "int8 of main costs 0.4000 of val accuracy, more than quantize.max_drop 0.005; see its quantization_report.json"
    )
    assert lines()[-1].strip() == warning


def test_models_up_to_date_are_skipped_caches_first(config: Config, lines: Callable[[], list[str]]) -> None:
    before = hashes(config.models / "main")
    quantize_models(config)
    assert lines() == ["quantize  cache_0.5_0 up to date", "quantize  main up to date"]
    quantize_models(config, ["main"])
    assert lines() == ["quantize  main up to date"]
    assert hashes(config.models / "main") == before


def test_new_weights_are_exported_again(config: Config, lines: Callable[[], list[str]]) -> None:
    before = hashes(config.models / "main")
    put(config, "main", *COUNTS["Insecta"], seed=1)
    quantize_models(config)
    said = lines()
    assert said[0] == "quantize  cache_0.5_0 up to date"
    assert said[1].startswith("quantize  main: 1.5")
    after = hashes(config.models / "main")
    assert all(after[name] != before[name] for name in ("model.onnx", "model.int8.onnx", "quantization_report.json"))


def test_a_train_part_smaller_than_the_calibration_sample_is_taken_whole(
    experiment: Path, lines: Callable[[], list[str]]
) -> None:
    config = config_again(configure(experiment, "quantize.calibration_images=99"))
    quantize_models(config, ["main"])
    photos = len(read_manifest(config.dataset_dir, config.paths.dst_dataset).part("train"))
    assert photos < 99
    assert f"  main is calibrated on all {photos} photos of train: quantize.calibration_images asks for 99" in lines()
    assert (config.models / "main" / "model.int8.onnx").is_file()


def test_a_model_that_is_still_in_training_is_refused(experiment: Path) -> None:
    config = configure(experiment)
    folder = put(config, "main", *COUNTS["Insecta"], seed=1)
    network, card = load_model(folder)
    save_model(folder, network, replace(card, training={**card.training, "finished": False}))
    before = hashes(folder)
    with pytest.raises(ModelError, match=r"main is still in training; let its train\.py end first"):
        quantize_models(config, ["main"])
    with pytest.raises(ModelError, match="main is still in training"):
        torchscript(folder, folder / "model.torchscript.pt", lambda: np.zeros((2, 32, 32, 3), np.uint8), 1.0)
    assert hashes(folder) == before


def test_fewer_calibration_photos_than_labels_are_told_of(
    experiment: Path, monkeypatch: pytest.MonkeyPatch, lines: Callable[[], list[str]]
) -> None:
    def fail(*given: object) -> None:
        raise ModelError("far enough")

    monkeypatch.setattr("pipeline.compression.run.export", fail)
    config = config_again(configure(experiment))
    for photos in (2, 3):
        few = config.quantize.model_copy(update={"calibration_images": photos})
        with pytest.raises(ModelError, match="far enough"):
            quantize_models(config.model_copy(update={"quantize": few}), ["main"])
    assert lines() == [
        "  2 calibration photos for the 3 labels of main: some are not seen; raise quantize.calibration_images"
    ]


def test_model_of_another_manifest_is_refused(config: Config) -> None:
    put(config, "main", *COUNTS["Insecta"], data_hash="000000000000")
    before = hashes(config.models / "main")
    with pytest.raises(
        ModelError, match=r"main was trained on manifest 000000000000, this one is \w{12}; train it again"
    ):
        quantize_models(config, ["main"])
    assert hashes(config.models / "main") == before


def test_missing_models_name_the_command(config: Config) -> None:
    with pytest.raises(
        ModelError, match=r"no trained model in .*cache_0\.5_7; run train\.py with the same --config first"
    ):
        quantize_models(config, ["cache_0.5_7"])
    shutil.rmtree(config.models)
    with pytest.raises(ModelError, match=r"no trained model in .*tiny; run train\.py with the same --config first"):
        quantize_models(config)


def test_missing_manifest_names_the_command(config: Config) -> None:
    shutil.rmtree(config.dataset_dir)
    with pytest.raises(DataError, match=r"run dataset_orchestrator\.py with the same --config first"):
        quantize_models(config)


def test_caches_come_in_order_of_their_windows_and_main_last(config: Config) -> None:
    for start in (7, 2):
        put(config, f"cache_0.5_{start}", "Pieris rapae", "Other")
    names = [folder.name for folder in trained_models(config)]
    assert names == ["cache_0.5_0", "cache_0.5_2", "cache_0.5_7", "main"]


def test_photo_that_cannot_be_read_is_named(config: Config) -> None:
    manifest = read_manifest(config.dataset_dir, config.paths.dst_dataset)
    rows = manifest.part("val")
    assert load_photos(manifest, rows, Recipe(size=32)).shape == (len(rows), 32, 32, 3)
    (manifest.root / rows["image_path"][0]).unlink()
    with pytest.raises(DataError, match=r"\.jpg: no such file"):
        load_photos(manifest, rows, Recipe(size=32))


def test_a_few_photos_that_cannot_be_read_any_more_are_left_out_and_many_are_an_error(
    config: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put(config, "main", *COUNTS["Insecta"], seed=1)
    manifest = read_manifest(config.dataset_dir, config.paths.dst_dataset)
    lost = manifest.part("val")["image_path"][0]
    (manifest.root / lost).unlink()
    with pytest.raises(DataError, match=f"1 of .* photos cannot be read, e.g. {re.escape(lost)}: no such file"):
        quantize_models(config)
    monkeypatch.setattr("pipeline.dataset.verify.MOST_UNREADABLE", 0.5)
    quantize_models(config)
    assert f"  left out: {lost}: no such file" in caplog.messages
    report = read_json(config.models / "main" / "quantization_report.json", "report")
    assert report["val"]["photos"] == len(manifest.part("val")) - 1


def test_script_takes_models_by_name(
    experiment: Path,
    monkeypatch: pytest.MonkeyPatch,
    lines: Callable[[], list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, code in (("cache_0.5_0", 0), ("nothing", 1)):
        monkeypatch.setattr(sys, "argv", ["quantize.py", "--config", str(experiment / "tiny.yaml"), "--model", name])
        assert script.main() == code
    assert lines() == ["quantize  cache_0.5_0 up to date"]
    error = capsys.readouterr().err
    assert "error: no trained model in" in error
    assert "Traceback" not in error


def test_edited_card_is_refused(config: Config) -> None:
    folder = config.models / "main"
    network, card = load_model(folder)
    save_model(folder, network, replace(card, metrics={"val_acc": 1.0}))
    (folder / "weights.safetensors").write_bytes(b"other")
    with pytest.raises(ModelError, match="missing or not the file"):
        quantize_models(config_again(config), ["main"])


def config_again(config: Config) -> Config:
    """The same with everything done anew."""
    return config.model_copy(update={"global_": config.global_.model_copy(update={"overwrite": True})})
