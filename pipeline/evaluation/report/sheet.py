"""Photos with their true species and what was answered: green where it is right, red where it is wrong."""

from __future__ import annotations

import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

from pipeline.dataset.names import short
from pipeline.dataset.plots import save
from pipeline.edge.errors import UnreadableImage
from pipeline.edge.recipe import Recipe, decode, preprocess
from pipeline.style import GREEN, RED

RECIPE = Recipe(size=224, crop=1.0)
ACROSS = 4  # photos in a row
LETTERS = 30  # of a name


def answered(samples: pd.DataFrame, root: Path, path: Path, photos: int = 12, seed: int = 0) -> None:
    """A PNG of photos drawn by seed from the stored answers of a model or of the cascade.

    samples: rows of a per_sample_results.parquet; root: the folder that image_path is relative to. The draw looks at nothing,
    so about as many are right as of all.
    """
    drawn = samples.sample(min(photos, len(samples)), random_state=seed)
    rows = -(-len(drawn) // ACROSS)
    figure, grid = plt.subplots(rows, ACROSS, figsize=(2.6 * ACROSS, 3.1 * rows + 0.4), squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, row in zip(grid.flat, drawn.to_dict("records"), strict=False):
        _show(axes, root / row["image_path"])
        colour, verdict = (GREEN, "right") if row["correct"] else (RED, "wrong")
        told = f"{_fitting(row['predicted_class'])}\n{verdict}, {row['confidence']:.0%}, by {row['stage']}"
        below = {"transform": axes.transAxes, "ha": "center", "va": "top", "fontsize": 9, "parse_math": False}
        axes.text(0.5, -0.03, f"truth: {_fitting(row['true_class'])}", **below)
        axes.text(0.5, -0.11, told, color=colour, **below)
    right = int(samples["correct"].sum())
    title = f"{len(drawn)} photos drawn from {len(samples)}, of which {right} are answered right ({right / len(samples):.0%})"
    figure.suptitle(title, fontsize=12)
    figure.tight_layout(pad=0.4)
    save(figure, path)


def _fitting(name: str) -> str:
    name = short(name)
    return name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…"


def _show(axes: Axes, path: Path) -> None:
    try:
        axes.imshow(preprocess(decode(path, RECIPE.decode_side), RECIPE))
    except UnreadableImage as error:  # since it was answered
        axes.text(0.5, 0.5, textwrap.fill(str(error), LETTERS), transform=axes.transAxes, ha="center", va="center")
