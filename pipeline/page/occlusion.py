"""Occlusion map: how much the answer's score drops when a grey square covers a part of the photo."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.edge.cascade import Stage
from pipeline.edge.rule import probabilities

ACROSS = 9  # positions of the square per side
ORANGE = (255, 120, 0)


@dataclass(frozen=True)
class HeatMap:
    """heat: (size, size) in [0, 1]. before: probability of the label on the whole photo; least: with a square on it."""

    heat: NDArray[np.float32]
    before: float
    least: float


def heat_map(stage: Stage, photo: NDArray[np.uint8], label: str) -> HeatMap:
    """Cover the photo (size, size, 3) square by square and ask the stage each time, ACROSS^2 inferences.

    Occlusion sensitivity (Zeiler & Fergus, Visualizing and understanding convolutional networks, 2014): the heat of a
    cell is the mean drop of the label's probability over the squares that cover it, as a share of the largest; between
    cells it is interpolated.
    """
    k, size = stage.labels.index(label), len(photo)

    def probability(image: NDArray[np.uint8]) -> float:
        return float(probabilities(stage.model.logits(image[None])[0], stage.rule.temperature)[k])

    before = least = probability(photo)
    edges = np.linspace(0, size, ACROSS + 2).round().astype(int)  # of the cells; a square covers two by two
    grey = np.round(255 * np.array(stage.recipe.mean)).astype(np.uint8)
    drops, covered = np.zeros((2, ACROSS + 1, ACROSS + 1))
    for i, j in product(range(ACROSS), repeat=2):
        image = photo.copy()
        image[edges[i] : edges[i + 2], edges[j] : edges[j + 2]] = grey
        least = min(least, after := probability(image))
        drops[i : i + 2, j : j + 2] += max(0.0, before - after)
        covered[i : i + 2, j : j + 2] += 1
    cells = drops / covered
    cells /= max(cells.max(), 1e-12)
    smooth = Image.fromarray(cells.astype(np.float32)).resize((size, size), Image.Resampling.BILINEAR)
    return HeatMap(np.asarray(smooth), before, least)


def overlay(photo: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The photo in grey, orange where the heat is."""
    grey = np.asarray(Image.fromarray(photo).convert("L"))[..., None]
    share = 0.75 * heat[..., None]
    mixed: NDArray[np.uint8] = np.round((1 - share) * grey + share * np.array(ORANGE)).astype(np.uint8)
    return mixed
