"""Feature maps of a network on one photo: the channels that vary most, at every resolution."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.config import Config
from pipeline.console import log
from pipeline.dataset.plots import save
from pipeline.edge.errors import UnreadableImage
from pipeline.edge.recipe import decode, preprocess
from pipeline.errors import DataError
from pipeline.evaluation.predict import stage_names
from pipeline.files import safe_name
from pipeline.models.checkpoint import load_model
from pipeline.models.deployable import Deployable

SHOWN = 8  # channels per layer
LAYERS = 6  # resolutions; of more, the finest are left out

Pixels = NDArray[np.uint8]
Maps = dict[str, NDArray[np.float32]]


def channels(config: Config, photo: Path) -> list[Path]:
    """Draw one picture per stage, output/<experiment>/channels/<stage>_<photo>.png."""
    made = []
    for name in stage_names(config):
        network, card = load_model(config.models / name)
        try:
            pixels = preprocess(decode(photo, card.recipe.decode_side), card.recipe)
        except UnreadableImage as error:
            raise DataError(f"{photo}: {error}") from error
        path = config.output / "channels" / f"{name}_{safe_name(photo.stem)}.png"
        maps = feature_maps(Deployable(network, card.recipe), pixels)
        draw(pixels, maps, f"{name}: {photo.name}", path, weights=card.weights_sha256)
        log.info("channels  %s", path)
        made.append(path)
    return made


def feature_maps(model: Deployable, pixels: Pixels) -> Maps:
    """Per resolution, finest first, the last feature map of that size: {layer: (channels, height, width)}."""
    last: dict[int, tuple[str, Tensor]] = {}

    def keep(name: str, output: object) -> None:
        if isinstance(output, Tensor) and is_map(output.shape) and output.shape[2] > 1:
            last[output.shape[2]] = name, output[0]

    with ExitStack() as hooks, torch.no_grad():
        for name, module in model.network.named_modules():
            hook = module.register_forward_hook(lambda _module, _input, output, name=name: keep(name, output))
            hooks.enter_context(hook)
        model.eval()(torch.from_numpy(pixels.copy())[None])
    return {name: last[size][1].numpy() for size in sorted(last, reverse=True) for name in [last[size][0]]}


def is_map(shape: Sequence[int]) -> bool:
    """Whether an output is (photos, channels, h, w) with h = w, as recipes are square; (photos, h, w, channels), as it is
    within ConvNeXt's blocks, is none."""
    return len(shape) == 4 and shape[2] == shape[3]


def draw(pixels: Pixels, maps: Maps, title: str, path: Path, **metadata: str) -> None:
    """A row per layer: the photo overlaid with the mean activation of all channels, then the channels that vary most.

    metadata: kept in the picture's file.
    """
    rows = list(maps.items())[-LAYERS:]
    size = 1.5 * (SHOWN + 1), 1.95 * len(rows)
    spaces = {"wspace": 0.08, "hspace": 0.3}
    figure, grid = plt.subplots(len(rows), SHOWN + 1, figsize=size, squeeze=False, gridspec_kw=spaces)
    for axes in grid.flat:
        axes.axis("off")
    side = pixels.shape[0]
    for line, (name, channel_maps) in zip(grid, rows, strict=True):
        line[0].imshow(pixels)
        strength = np.abs(channel_maps).mean(axis=0)
        line[0].imshow(strength, cmap="inferno", alpha=0.55, extent=(0, side, side, 0), interpolation="bilinear")
        n, height, width = channel_maps.shape
        line[0].set_title(f"{name}\n{n} of {height} x {width}", fontsize=8, loc="left")
        for axes, channel in zip(line[1:], np.argsort(-channel_maps.std(axis=(1, 2)), kind="stable"), strict=False):
            axes.imshow(channel_maps[channel], cmap="viridis")
            axes.set_title(f"channel {channel}", fontsize=8)
    figure.suptitle(title, fontsize=11)
    save(figure, path, **metadata)
