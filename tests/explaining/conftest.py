"""Networks whose answer is known by hand, and the toy experiment with torch models beside its exported ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from toy import COLOURS, RECIPE, Experiment, write_experiment

from pipeline.dataset.manifest import experiment_manifest
from pipeline.evaluation.predict import predict_stages
from pipeline.explaining.network import readable
from pipeline.explaining.subject import Subject
from pipeline.labels import OTHER, LabelSpace
from pipeline.models.checkpoint import ModelCard, save_model
from pipeline.models.registry import build

SIZE = RECIPE.size
LABELS = LabelSpace(("red", "not red"))


class Red(nn.Module):
    """How much red there is, anywhere: a convolution, ReLU, the mean, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.red = nn.Conv2d(3, 1, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.linear = nn.Linear(1, 2)
        with torch.no_grad():
            self.red.weight.copy_(torch.tensor([1.0, -0.5, -0.5]).view(1, 3, 1, 1).expand(1, 3, 3, 3) / 9)
            self.red.bias.fill_(-0.2)  # grey and white are not red
            self.linear.weight.copy_(torch.tensor([[60.0], [-60.0]]))
            self.linear.bias.copy_(torch.tensor([-3.0, 3.0]))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.relu(self.red(x)).mean((2, 3)))
        return logits


class Corner(Red):
    """Red of the upper left quarter alone."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[:, :, : SIZE // 2, : SIZE // 2])


def subject(network: nn.Module, labels: LabelSpace = LABELS) -> Subject:
    card = ModelCard("hand", "main", "by hand", {}, labels, RECIPE, "0123456789ab", 0)
    return Subject(card, readable(network.eval(), RECIPE))


def blob(top: int, left: int, seed: int = 0) -> NDArray[np.uint8]:
    """Grey noise with a red square of 8 px."""
    rng = np.random.default_rng(seed)
    pixels = np.repeat(rng.integers(90, 160, (SIZE, SIZE, 1)), 3, axis=2)
    pixels[top : top + 8, left : left + 8] = (230, 30, 30)
    return pixels.astype(np.uint8)


@pytest.fixture(scope="session")
def master(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """The toy experiment, predicted, with a network that was not trained in each model folder."""
    made = write_experiment(tmp_path_factory.mktemp("explained") / "root")
    config = made.config()
    manifest = experiment_manifest(config)
    predict_stages(config, manifest, "fp32")
    spaces = {"main": tuple(COLOURS), "cache_0.5_0": ("Apis mellifera", "Vanessa atalanta", OTHER)}
    for name, labels in spaces.items():
        torch.manual_seed(0)
        card = ModelCard(
            name, name.split("_")[0], "test_resnet", {}, LabelSpace(labels), RECIPE, manifest.hash, config.seed
        )
        save_model(config.models / name, build("test_resnet", len(labels)), card)
    return made


@pytest.fixture
def experiment(master: Experiment, tmp_path: Path) -> Experiment:
    """The test's own copy."""
    return master.copy(tmp_path / "root")
