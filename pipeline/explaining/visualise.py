"""Feature visualisation of channels and species, and groups of channels located in a photo."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.decomposition import NMF

from pipeline.config import Config
from pipeline.console import log, progress
from pipeline.dataset.manifest import learnt_manifest
from pipeline.dataset.plots import save
from pipeline.edge.errors import UnreadableImage
from pipeline.errors import ConfigError, did_you_mean
from pipeline.evaluation.report.channels import is_map
from pipeline.explaining.dream import activations, channels, directions, dream, labels
from pipeline.explaining.figure import SIDE, overlay
from pipeline.explaining.kept import once
from pipeline.explaining.methods import Map
from pipeline.explaining.network import last_map, outputs
from pipeline.explaining.photos import photos_to_explain
from pipeline.explaining.subject import Subject, load_subjects
from pipeline.files import safe_name, sha256

STEPS = 128  # of the optimisation of a picture
PLACES = 5  # per side of an activation grid; each place takes as long as a group
Panel = tuple[str, NDArray[np.generic]]  # title, picture


def visualise(config: Config, wanted: Sequence[str], models: Sequence[str], layer: str | None) -> None:
    """Pictures that each model wants to see for species (by name) and channels of a layer (by number).

    layer: the last one with places if None. Writes output/<experiment>/explanations/wanted_<model>.png.
    """
    numbers = [int(word) for word in wanted if word.isdecimal()]
    species = [word for word in wanted if not word.isdecimal()]
    for subject in load_subjects(config, models):
        name = _layer(subject, layer)
        _check(subject, name, numbers, species)
        path = config.output / "explanations" / f"wanted_{safe_name(subject.card.name)}.png"
        once(
            config, path, [subject], {"species": species, "channels": numbers, "layer": name},
            partial(_draw_wanted, path, subject, name, species, numbers, config.seed),
        )  # fmt: skip


def _draw_wanted(
    path: Path, subject: Subject, layer: str, species: list[str], numbers: list[int], seed: int
) -> list[str]:
    panels: list[Panel] = []
    for words, objective in (
        (species, labels([subject.card.labels.names.index(word) for word in species])),
        ([f"channel {number}" for number in numbers], channels(numbers)),
    ):
        if words:
            pictures = dream(subject.model, layer, objective, len(words), subject.card.recipe.size, seed, STEPS)
            panels += zip(words, pictures, strict=True)
    _draw(path, f"what {subject.card.name} wants to see ({layer.removeprefix('network.')})", [panels])
    log.info("explain   %s", path)
    return []


def explain_groups(config: Config, images: Sequence[str], models: Sequence[str], n: int, layer: str | None) -> int:
    """A picture per photo and model of its channel_groups() or, where n is 0, its activation_grid(), in
    output/<experiment>/explanations/. Returns how many photos could not be read.
    """
    failed, kind = 0, "groups" if n else "grid"
    photos = photos_to_explain(config, learnt_manifest(config), images)
    for subject in load_subjects(config, models):
        name = _layer(subject, layer)
        for photo, path in progress(photos.items(), len(photos), f"{kind} {subject.card.name}"):
            try:
                pixels = subject.see(path)
            except UnreadableImage as error:
                log.warning("explain   %s: %s", path, error)
                failed += 1
                continue
            picture = config.output / "explanations" / f"{kind}_{safe_name(subject.card.name)}_{photo}.png"
            once(
                config, picture, [subject], {"photo": sha256(path), "groups": n, "layer": name},
                partial(_draw_parts, picture, subject, pixels, n, name, config.seed),
            )  # fmt: skip
    return failed


def _draw_parts(path: Path, subject: Subject, pixels: NDArray[np.uint8], n: int, layer: str, seed: int) -> list[str]:
    if n:
        _draw_groups(path, subject, pixels, channel_groups(subject, pixels, n, layer, seed, STEPS))
    else:
        grid = activation_grid(subject, pixels, layer, seed, STEPS)
        _draw(path, subject.card.name, [[("photo", pixels), ("what each place makes it see", grid)]], side=2 * SIDE)
    log.info("explain   %s", path)
    return []


def channel_groups(
    subject: Subject, pixels: NDArray[np.uint8], n: int, layer: str, seed: int, steps: int
) -> list[tuple[Map, NDArray[np.uint8]]]:
    """n groups of channels that are active together on a photo: where, (size, size) in 0..1, and a picture that maximises each.

    Groups are the factors of the non-negative matrix factorisation of the activations (Olah et al., The Building Blocks
    of Interpretability, Distill 2018), most active first. layer: as the network calls it, e.g. network.blocks.4.
    """
    size = subject.card.recipe.size
    maps = activations(subject.model, layer, pixels).clamp(min=0)
    places = maps.flatten(1).T.numpy().astype(np.float64)  # (h w, c)
    n = min(n, *places.shape)
    factors = NMF(n, init="nndsvda", random_state=seed, max_iter=1000, tol=1e-3)
    where = factors.fit_transform(places)
    order = np.argsort(-(where.sum(0) * np.linalg.norm(factors.components_, axis=1)), kind="stable")
    objective = directions(torch.tensor(factors.components_[order], dtype=torch.float32))
    pictures = dream(subject.model, layer, objective, n, size, seed, steps)
    grids = where.T[order].reshape(n, *maps.shape[1:]).astype(np.float32)
    return [(_enlarged(grid, size), picture) for grid, picture in zip(grids, pictures, strict=True)]


def activation_grid(
    subject: Subject, pixels: NDArray[np.uint8], layer: str, seed: int, steps: int
) -> NDArray[np.uint8]:
    """Activation grid of a layer on a photo: per place a picture that maximises all its channels together, paler where they
    answer less. (rows x size, columns x size, 3), at most PLACES a side. Olah et al., as channel_groups().
    """
    size = subject.card.recipe.size
    maps = activations(subject.model, layer, pixels).clamp(min=0)
    rows, columns = (min(PLACES, side) for side in maps.shape[1:])
    places = torch.nn.functional.adaptive_avg_pool2d(maps, (rows, columns)).flatten(1).T  # (places, c)
    strength = places.norm(dim=1)
    share = (strength / strength.max().clamp(min=1e-9)).numpy()[:, None, None, None]
    pictures = dream(subject.model, layer, directions(places), rows * columns, size, seed, steps)
    paler = (share * pictures + (1 - share) * 255).round().astype(np.uint8)
    whole: NDArray[np.uint8] = paler.reshape(rows, columns, size, size, 3).swapaxes(1, 2)
    return whole.reshape(rows * size, columns * size, 3)


def _draw_groups(
    path: Path, subject: Subject, pixels: NDArray[np.uint8], groups: list[tuple[Map, NDArray[np.uint8]]]
) -> None:
    """Two rows: the photo and where each group is active, and below the picture of each group."""
    upper: list[Panel] = [
        ("photo", pixels),
        *((f"group {i}", overlay(pixels, one)) for i, (one, _) in enumerate(groups, 1)),
    ]
    lower: list[Panel] = [("", np.full_like(pixels, 255)), *(("wants to see", picture) for _, picture in groups)]
    _draw(path, f"{subject.card.name}: channels that answer together", [upper, lower])


def _layer(subject: Subject, name: str | None) -> str:
    """The layer of this name, as the network calls it; it must give channels over places."""
    size = subject.card.recipe.size
    if name is None:
        return last_map(subject.model, size)
    there = [layer for layer, _, shape in outputs(subject.model, size) if is_map(shape)]
    if f"network.{name}" not in there:
        layers = [layer.removeprefix("network.") for layer in there]
        hint = did_you_mean(name, layers, f"the last is {layers[-1]}")
        raise ConfigError(f"{subject.card.name} has no layer {name!r} that gives channels over places; {hint}")
    return f"network.{name}"


def _check(subject: Subject, layer: str, numbers: Sequence[int], species: Sequence[str]) -> None:
    known = subject.card.labels.names
    for word in species:
        if word not in known:
            hint = did_you_mean(word, known, "give species by name or channels by number")
            raise ConfigError(f"{subject.card.name} knows no species {word!r}; {hint}")
    [width] = {shape[1] for name, _, shape in outputs(subject.model, subject.card.recipe.size) if name == layer}
    if numbers and max(numbers) >= width:
        raise ConfigError(f"{layer.removeprefix('network.')} of {subject.card.name} has channels 0 to {width - 1}")


def _enlarged(grid: NDArray[np.float32], size: int) -> Map:
    large: Map = np.asarray(Image.fromarray(grid).resize((size, size), Image.Resampling.BILINEAR))
    highest = float(large.max())
    scaled: Map = large / highest if highest > 0 else large
    return scaled


def _draw(path: Path, title: str, rows: Sequence[Sequence[Panel]], side: float = SIDE) -> None:
    columns = max(map(len, rows))
    figure, grid = plt.subplots(
        len(rows), columns, figsize=(side * columns, (side + 0.3) * len(rows) + 0.4), squeeze=False
    )
    for axes, (words, picture) in zip(grid.flat, (panel for row in rows for panel in row), strict=True):
        axes.imshow(picture)
        axes.set_title(words, fontsize=10)
        axes.axis("off")
    figure.suptitle(title, fontsize=12)
    figure.tight_layout()
    save(figure, path)
