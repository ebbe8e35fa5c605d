"""One picture per photo: what each network saw, its answer, and the map of each method."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from pipeline.dataset.plots import save
from pipeline.style import GREEN, RED

HEAT = "inferno"
SIDE = 2.4  # inches per panel


@dataclass(frozen=True)
class Explanation:
    """One model's answer to one photo, with its maps. pixels: (size, size, 3) as the network saw them.

    label, score: its answer. target, target_score: the label that the maps explain. right: None where the truth is unknown.
    maps: by method; a text says why there is none.
    """

    model: str
    pixels: NDArray[np.uint8]
    label: str
    score: float
    target: str
    target_score: float
    right: bool | None
    maps: Mapping[str, NDArray[np.float32] | str]


def draw(path: Path, title: str, answers: Sequence[Explanation]) -> None:
    """A row per model: photo and answer, then each method's map over the grey photo."""
    methods = list(answers[0].maps)
    columns = len(methods) + 1
    figure, grid = plt.subplots(
        len(answers), columns, figsize=(SIDE * columns, (SIDE + 0.55) * len(answers) + 0.5), squeeze=False
    )
    for row, answer in zip(grid, answers, strict=True):
        _seen(row[0], answer)
        for axes, method in zip(row[1:], methods, strict=True):
            _looked(axes, answer, method)
    for axes, method in zip(grid[0, 1:], methods, strict=True):
        axes.set_title(method.replace("_", " "), fontsize=11)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set_visible(False)
    figure.suptitle(
        f"{title}\nbright: evidence for what stands below the map, or else for the model's answer", fontsize=11
    )
    figure.tight_layout()
    save(figure, path)


def overlay(pixels: NDArray[np.uint8], plane: NDArray[np.float32]) -> NDArray[np.float64]:
    """The grey photo, (s, s, 3) in 0..1, overlaid with the map; opacity grows with its value."""
    grey = 0.35 + 0.5 * pixels.mean(-1, keepdims=True) / 255
    heat = plt.get_cmap(HEAT)(plane)[..., :3]
    alpha = np.clip(1.2 * np.sqrt(plane), 0, 0.9)[..., None]
    blended: NDArray[np.float64] = grey * (1 - alpha) + heat * alpha
    return blended


def _seen(axes: Axes, answer: Explanation) -> None:
    axes.imshow(answer.pixels)
    colour = "black" if answer.right is None else GREEN if answer.right else RED
    verdict = "" if answer.right is None else "\nright" if answer.right else "\nwrong"
    text = f"{answer.model}: {answer.score:.0%}\n{_short(answer.label)}{verdict}"
    axes.set_xlabel(text, color=colour, fontsize=10)


def _looked(axes: Axes, answer: Explanation, method: str) -> None:
    found = answer.maps[method]
    if isinstance(found, str):
        axes.imshow(np.full_like(answer.pixels, 245))
        text = textwrap.fill(f"no map: {found}", 34)
        axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=7, wrap=True)
        return
    axes.imshow(overlay(answer.pixels, found))
    lines = [] if answer.target == answer.label else [f"for {_short(answer.target)}: {answer.target_score:.0%}"]
    axes.set_xlabel("\n".join([*lines, *([] if found.any() else ["nothing speaks for it"])]), fontsize=10)


def _short(name: str) -> str:
    return textwrap.shorten(name, 30, placeholder="...")
