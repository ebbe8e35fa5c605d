"""Networks trained for a moment on photos whose species is their colour, and their exported files, made once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import draw_photo
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.nn import functional

from pipeline.compression.export import export
from pipeline.compression.quantization import prepared, write_int8
from pipeline.edge.recipe import Recipe
from pipeline.labels import LabelSpace
from pipeline.models.checkpoint import ModelCard
from pipeline.models.deployable import Deployable
from pipeline.models.registry import build
from pipeline.sections.compression import Quantize

COLOURS = ((200, 40, 40), (40, 180, 40), (40, 40, 200))
RECIPE = Recipe(size=48, crop=1.0, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
CARD = ModelCard(
    "main", "main", "", {}, LabelSpace(("Apis mellifera", "Pieris rapæ", "Other")), RECIPE, "0123456789ab", 5
)


def quantized(source: Path, target: Path, given: NDArray[np.uint8], **settings: Any) -> None:
    """Write the int8 twin of an exported file, calibrated on these photos."""
    with prepared(source, given, Quantize(**settings)) as ready:
        write_int8(ready, target)


@dataclass(frozen=True)
class Exported:
    """A network with its card, both its files, and the figures of the export."""

    network: nn.Module
    card: ModelCard
    fp32: Path
    int8: Path
    figures: dict[str, Any]

    def logits(self, photos: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What torch says."""
        with torch.inference_mode():
            found: NDArray[np.float32] = Deployable(self.network.eval(), self.card.recipe)(
                torch.from_numpy(photos)
            ).numpy()
        return found


def photos(n: int, seed: int = 0, size: int = 48) -> NDArray[np.uint8]:
    """(n, size, size, 3), the colours in turn."""
    tints = [Image.new("RGB", (size, size), COLOURS[i % 3]) for i in range(n)]
    drawn = [draw_photo(1000 * seed + i, size, size) for i in range(n)]
    return np.stack([np.asarray(Image.blend(a, b, 0.4)) for a, b in zip(tints, drawn, strict=True)])


def fit(network: nn.Module, steps: int) -> nn.Module:
    """The network after some steps of training."""
    model = Deployable(network, RECIPE).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.5  # running statistics that follow a short training
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for step in range(steps):
        loss = functional.cross_entropy(model(torch.from_numpy(photos(12, step + 1))), torch.arange(12) % 3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    """Trains, exports and quantizes the network of this name, once per session."""

    @cache
    def make(name: str) -> Exported:
        torch.manual_seed(0)
        network = fit(build(name, 3), 20)
        folder = tmp_path_factory.mktemp(name)
        fp32, int8 = folder / "model.onnx", folder / "model.int8.onnx"
        card = ModelCard(**{**CARD.__dict__, "architecture": name})
        figures = export(network, card, fp32, photos(12), 1e-3)
        quantized(fp32, int8, photos(24, 99))
        return Exported(network, card, fp32, int8, figures)

    return make
