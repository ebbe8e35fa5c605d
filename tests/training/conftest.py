"""Photos whose species is their colour, so that a tiny network learns them in seconds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from pipeline.config import Config, load_config
from pipeline.dataset.manifest import COLUMNS, write_manifest
from pipeline.edge.recipe import Recipe
from pipeline.labels import LabelSpace
from pipeline.models.checkpoint import ModelCard
from pipeline.sections.training import Training
from pipeline.training.data import Photos
from pipeline.training.loop import train

COLOURS = {"Apis": (220, 40, 40), "Bombus": (40, 200, 40), "Colias": (40, 40, 220), "Danaus": (200, 200, 40)}
TRAIN = {"Apis": 4, "Bombus": 12, "Colias": 8, "Danaus": 2}  # the ranking is Bombus, Colias, Apis, Danaus
VAL = {"Apis": 3, "Bombus": 4, "Colias": 3, "Danaus": 2}


@pytest.fixture(scope="session")
def coloured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photos/Insecta/<species>/<n>.jpg, 48 x 40 px, noise around the species' colour, not to be changed."""
    root, rng = tmp_path_factory.mktemp("coloured"), np.random.default_rng(0)
    for species, colour in COLOURS.items():
        folder = root / "Insecta" / species
        folder.mkdir(parents=True)
        for i in range(TRAIN[species] + VAL[species]):
            pixels = np.array(colour) + rng.normal(0, 30, (40, 48, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{i}.jpg", quality=95)
    return root


def table() -> pd.DataFrame:
    """Manifest rows of the coloured photos."""
    rows = [
        {
            "image_path": f"Insecta/{species}/{i}.jpg", "group": "Insecta", "species": species, "label_id": label,
            "split": "train" if i < TRAIN[species] else "val", "sha256": f"{species}{i}", "width": 48, "height": 40,
            "duplicate_group": 100 * label + i, "ok": True, "reason": "",
        }
        for label, species in enumerate(COLOURS) for i in range(TRAIN[species] + VAL[species])
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


@pytest.fixture
def toy(tmp_path: Path, coloured: Path) -> Callable[..., Config]:
    """Configuration of the coloured photos with `--set` overrides, its manifest written; another `experiment` has its own
    model folders. main and cache train in about a second."""
    training: dict[str, Any] = {
        "model": "test_resnet", "epochs": 3, "batch_size": 6, "lr": 0.003, "workers": 0, "warmup_epochs": 0.5,
        "recipe": {"size": 32, "crop": 1.0}, "augment": "light",
    }  # fmt: skip
    paths = {"dst_dataset": str(coloured), "output_dir": str(tmp_path / "out"), "models_dir": str(tmp_path / "models")}

    def make(*overrides: str) -> Config:
        path = tmp_path / "toy.yaml"
        path.write_text(json.dumps({"paths": paths, "main": training, "cache": training}))
        config = load_config(path, overrides)
        write_manifest(config.dataset_dir, table(), LabelSpace(tuple(COLOURS)), config.seed)
        return config

    return make


LABELS = LabelSpace(tuple(COLOURS))
RECIPE = Recipe(size=32, crop=1.0)
CARD = ModelCard(
    "main", "main", "none of the registry", {}, LABELS, RECIPE, "0123456789ab", 5, training={"fingerprint": "f"}
)


def network(labels: int = 4, dropout: float = 0.2) -> nn.Sequential:
    """The smallest network with all that makes resuming hard: running statistics, dropout, weight decay."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout),
        nn.Linear(8, labels),
    )  # fmt: skip


def settings(**changes: Any) -> Training:
    """Three epochs of the coloured photos."""
    given = {"model": "x", "epochs": 3, "batch_size": 6, "lr": 0.02, "workers": 0, "warmup_epochs": 0.5, **changes}
    return Training(**given)


def sets(root: Path, card: ModelCard = CARD, strength: str = "medium", **changes: Any) -> tuple[Photos, Photos]:
    """The coloured photos to learn from and those to choose by."""
    card = replace(card, **changes)

    def part(split: str, strength: str) -> Photos:
        rows = table().query(f"split == '{split}'")
        labels: NDArray[np.int64] = card.labels.ids(rows["species"].tolist())
        return Photos([root / path for path in rows["image_path"]], labels, card.recipe, strength, card.seed)

    return part("train", strength), part("val", "none")


class Killed(BaseException):
    """Ends a training as a kill does: nothing in the loop expects it."""


class Constant(nn.Module):
    """Gives the same logits for every photo, times a weight that can be learnt."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.register_buffer("logits", torch.tensor(logits))
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, photos: Tensor) -> Tensor:
        return (self.weight * self.logits).expand(len(photos), -1)


Run = Callable[..., ModelCard]


@pytest.fixture
def run(tmp_path: Path, coloured: Path) -> Run:
    """Trains into tmp_path/<name> as the same command would each time; keyword arguments are settings."""

    def once(name: str = "model", net: nn.Module | None = None, on_epoch: Any = None, teacher: Any = None,
             card: ModelCard = CARD, **changes: Any) -> ModelCard:  # fmt: skip
        torch.manual_seed(card.seed)
        given: Training = settings(**changes)
        net = net or network()
        return train(tmp_path / name, net, card, given, *sets(coloured, card), [teacher] if teacher else [], on_epoch)

    return once


def metrics(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "training_metrics.csv").drop(columns="seconds")


def last_weights(folder: Path) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = torch.load(folder / "last.pt", weights_only=True)["network"]
    return weights


def same_end(one: Path, other: Path) -> None:
    """The two folders hold the same files, and the same in them but for the seconds."""
    assert sorted(path.name for path in one.iterdir()) == sorted(path.name for path in other.iterdir())
    pd.testing.assert_frame_equal(metrics(one), metrics(other), check_exact=True)
    assert (one / "weights.safetensors").read_bytes() == (other / "weights.safetensors").read_bytes()
    assert (one / "model.json").read_bytes() == (other / "model.json").read_bytes()
    ours, theirs = last_weights(one), last_weights(other)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def kill_after(epochs: int) -> Callable[[dict[str, float]], None]:
    """For `on_epoch`: ends the training when so many epochs are kept and another was trained."""

    def kill(row: dict[str, float]) -> None:
        if row["epoch"] > epochs:
            raise Killed

    return kill
