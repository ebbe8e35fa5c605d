"""What a network's layers see in one photo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from toy import Experiment

from pipeline.edge.labels import OTHER
from pipeline.edge.recipe import Recipe
from pipeline.errors import DataError
from pipeline.evaluation.report.channels import LAYERS, channels, draw, feature_maps
from pipeline.labels import LabelSpace
from pipeline.models.checkpoint import ModelCard, save_model
from pipeline.models.deployable import Deployable
from pipeline.models.registry import build


class Net(nn.Module):
    """Three resolutions and a classifier; the red plane is the first channel of each."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 1, bias=False)
        self.second = nn.Sequential(nn.AvgPool2d(2), nn.Identity())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(3, 2)
        nn.init.eye_(self.first.weight.data[:, :, 0, 0])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.head(self.pool(self.second(self.first(x))).flatten(1))
        return answer


def test_the_last_map_of_each_resolution() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    model = Deployable(Net(), Recipe(size=8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)))
    maps = feature_maps(model, pixels)
    assert {name: found.shape for name, found in maps.items()} == {"first": (3, 8, 8), "second": (3, 4, 4)}
    assert maps["first"] == pytest.approx(pixels.transpose(2, 0, 1) / 255, abs=1e-6)
    assert not any(module._forward_hooks for module in model.modules())


class Last(nn.Module):
    """Channels last between two permutations, as in ConvNeXt's blocks; then tokens over no square."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(0, 2, 3, 1)


def test_channels_last_are_no_map() -> None:
    net = Net()
    net.second = nn.Sequential(
        nn.AvgPool2d(2), Last(), nn.Flatten(2), nn.Linear(12, 3), nn.Unflatten(1, (2, 2)), Last()
    )
    net.head = nn.Linear(2, 2)
    maps = feature_maps(Deployable(net, Recipe(size=8)), np.zeros((8, 8, 3), np.uint8))
    assert {name: found.shape for name, found in maps.items()} == {"first": (3, 8, 8), "second.0": (3, 4, 4)}


def test_a_picture_of_few_channels_and_of_many_layers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (64, 64, 3), np.uint8)
    maps = {f"layer {i}": rng.normal(size=(2, 64 - i, 64 - i)).astype(np.float32) for i in range(LAYERS + 2)}
    draw(pixels, maps, "$a title$", tmp_path / "a.png")
    draw(pixels, dict(list(maps.items())[:1]), "", tmp_path / "b.png")
    heights = [Image.open(tmp_path / name).height for name in ("a.png", "b.png")]
    assert heights[0] > 4 * heights[1]


def test_one_picture_per_stage(experiment: Experiment, tmp_path: Path) -> None:
    config = experiment.config()
    for name, labels in (("cache_0.5_0", ("a", OTHER)), ("main", ("a", "b", "c"))):
        card = ModelCard(name, "main", "test_resnet", {}, LabelSpace(labels), Recipe(size=32), "", 0)
        save_model(config.models / name, build("test_resnet", len(labels)), card)
    photo = next((config.paths.dst_dataset / "Insecta" / "Apis mellifera").iterdir())
    made = channels(config, photo)
    assert [path.name for path in made] == [f"cache_0.5_0_{photo.stem}.png", f"main_{photo.stem}.png"]
    assert all(path.is_file() for path in made)
    (tmp_path / "broken.jpg").write_text("no photo")
    with pytest.raises(DataError, match=r"broken\.jpg: is no image in a format that Pillow knows"):
        channels(config, tmp_path / "broken.jpg")
