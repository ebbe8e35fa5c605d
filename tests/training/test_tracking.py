"""What each tracker was told is read back from what it left on this machine."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.errors import ConfigError
from pipeline.models.checkpoint import ModelCard
from pipeline.training import tracking as module
from pipeline.training.tracking import tracking

from .conftest import CARD

Files = dict[str, bytes]
TRAINED = replace(CARD, training={"fingerprint": "abc", "settings": {"lr": 0.1, "mix": {"mixup": 0.3}}})
ROWS = [{"epoch": 1.0, "train_loss": 2.0, "val_acc": 0.5}, {"epoch": 2.0, "train_loss": 1.5, "val_acc": 0.75}]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The folder of a trained model, whose last.pt is nobody's business."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("weights.safetensors", "training_metrics.csv", "last.pt"):
        (folder / name).write_text(f"bytes of {name}")
    return folder


def track(name: str, root: Path, rows: list[dict[str, float]] = ROWS, model: Path | None = None) -> None:
    with tracking([name], root, "toy", TRAINED) as tracker:
        for row in rows:
            tracker.log(row)
        if model:
            tracker.keep(model, replace(TRAINED, metrics={"val_acc": 0.75}))


def check_kept(found: Files) -> None:
    """The card as it is, and the two files, nothing else."""
    card = ModelCard.from_dict(json.loads(found.pop("model.json")))
    assert (card.name, card.labels, card.metrics) == ("main", CARD.labels, {"val_acc": 0.75})
    assert found == {name: f"bytes of {name}".encode() for name in ("weights.safetensors", "training_metrics.csv")}


def test_no_tracker_is_no_work(tmp_path: Path) -> None:
    with tracking([], tmp_path, "toy", TRAINED) as tracker:
        tracker.log(ROWS[0])
        tracker.keep(tmp_path, TRAINED)
    assert not list(tmp_path.iterdir())


def test_tensorboard_holds_a_curve_per_metric_and_the_card(tmp_path: Path, model: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    track("tensorboard", tmp_path, ROWS[:1])
    track("tensorboard", tmp_path, ROWS[1:], model)  # killed and continued
    events = EventAccumulator(str(tmp_path / "tensorboard" / "toy" / "main" / "abc"))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == ["train_loss", "val_acc"]
    assert [(e.step, e.value) for e in events.Scalars("val_acc")] == [(1, 0.5), (2, 0.75)]
    (event,) = events.Tensors("model.json/text_summary")
    text = event.tensor_proto.string_val[0].decode().removeprefix("```json\n").removesuffix("\n```")
    assert ModelCard.from_dict(json.loads(text)).metrics == {"val_acc": 0.75}


def test_mlflow_store_is_read_back(tmp_path: Path, model: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    track("mlflow", tmp_path, ROWS[:1])
    track("mlflow", tmp_path, ROWS[1:], model)  # goes on in the same run
    track("mlflow", tmp_path, [], model)  # killed before the training could say that it was finished
    client = mlflow.MlflowClient(tracking_uri=(tmp_path / "mlflow").as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("toy").experiment_id])
    assert run.info.run_name == "main"
    assert run.info.status == "FINISHED"
    assert run.data.params["lr"] == "0.1"
    history = client.get_metric_history(run.info.run_id, "train_loss")
    assert [(point.step, point.value) for point in history] == [(1, 2.0), (2, 1.5)]
    there = Path(client.download_artifacts(run.info.run_id, "", str(tmp_path)))
    check_kept({file.path: (there / file.path).read_bytes() for file in client.list_artifacts(run.info.run_id)})


def test_mlflow_run_of_a_failed_training_says_so(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    with pytest.raises(ZeroDivisionError), tracking(["mlflow"], tmp_path, "toy", TRAINED):
        raise ZeroDivisionError
    client = mlflow.MlflowClient(tracking_uri=(tmp_path / "mlflow").as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("toy").experiment_id])
    assert run.info.status == "FAILED"


def test_clearml_leaves_an_offline_session(tmp_path: Path, model: Path) -> None:
    pytest.importorskip("clearml")
    before = torch.get_rng_state(), torch.save
    track("clearml", tmp_path, model=model)
    assert torch.equal(before[0], torch.get_rng_state())
    assert torch.save is before[1]
    (session,) = tmp_path.rglob("*.zip")
    with zipfile.ZipFile(session) as archive:
        assert json.loads(archive.read("task.json"))["name"] == "main"
        events = [json.loads(line) for line in archive.read("metrics.jsonl").decode().splitlines()]
        kept = [name for name in archive.namelist() if "/artifacts/" in name]  # .../artifacts/<name>/<file>
        check_kept({Path(name).parent.name: archive.read(name) for name in kept})
    found = {(event["metric"], event["iter"], event["value"]) for batch in events for event in batch}
    assert {("val_acc", 1, 0.5), ("val_acc", 2, 0.75), ("train_loss", 2, 1.5)} <= found


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "clearml"])
def test_absent_package_is_named_with_its_extra(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: Callable[[], list[str]]
) -> None:
    def absent(module: str) -> None:
        raise ImportError(module)

    monkeypatch.setattr(module.importlib, "import_module", absent)
    with pytest.raises(ConfigError, match=rf"tracking: \[{name}\] needs `pip install 'ommatidia\[{name}\]'`"):
        track(name, tmp_path)
