"""Faithfulness of attribution maps: deletion and insertion curves, and the weight-randomisation test."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr
from torch import nn

from pipeline.config import Config
from pipeline.console import log, progress
from pipeline.dataset.manifest import experiment_manifest
from pipeline.edge.errors import UnreadableImage
from pipeline.errors import DataError, ModelError
from pipeline.evaluation.scores import RESAMPLES
from pipeline.explaining.kept import once
from pipeline.explaining.methods import METHODS, Map, check_methods, relevance
from pipeline.explaining.network import neutral
from pipeline.explaining.subject import Subject, load_subjects
from pipeline.files import sha256, write_csv
from pipeline.models.deployable import Deployable

STEPS = 24  # parts of the photo that are deleted or inserted, one after the other
BLUR = 10  # insertion starts from the photo blurred by 1/BLUR of its side, without any edge
CELLS = 6  # cells per side of a random map, as coarse as occlusion's squares
CONTROLS = ("random", "centre")  # baseline maps, without a network
FIGURES = ("deletion", "insertion", "likeness")


def check(config: Config, models: Sequence[str], methods: Sequence[str], photos: int) -> int:
    """Score maps on `photos` seeded test photos; writes output/<experiment>/explanations/check.csv, a row per model and map.

    deletion, insertion: area under the answer's probability while the photo goes or comes in the map's order (Petsiuk et
    al., BMVC 2018); a good map has a low first and a high second one. gain: insertion less deletion, above the random
    map's, paired. likeness: rank correlation with the map of the same network with shuffled weights (Adebayo et al., NeurIPS
    2018); a map near 1 shows the photo's edges and not what the network knows. Each with its 95 % bootstrap interval over
    photos. Returns how many photos and methods could not be used.
    """
    chosen = check_methods(METHODS if not methods or list(methods) == ["all"] else methods)
    subjects, manifest = load_subjects(config, models), experiment_manifest(config)
    test = manifest.part("test")
    rows = test.sample(min(photos, len(test)), random_state=config.seed)["image_path"].sort_values()
    drawn = {name: manifest.root / name for name in rows}
    path = config.output / "explanations" / "check.csv"

    def work() -> list[str]:
        failed: dict[str, str] = {}
        found = [_scores(subject, drawn, chosen, config.seed, failed) for subject in subjects]
        table = pd.concat(found, ignore_index=True)
        write_csv(path, table)
        columns = ["model", "map", *FIGURES[:2], "gain"]
        for line in table.to_string(index=False, columns=columns, float_format="%.3f").split("\n"):
            log.info("  %s", line)
        log.info("explain   %s", path)
        return [f"{what}: {why}" for what, why in failed.items()]

    digests = {name: sha256(file) if file.is_file() else None for name, file in drawn.items()}
    return once(config, path, subjects, {"photos": digests, "methods": list(chosen)}, work)


def _scores(
    subject: Subject, photos: Mapping[str, Path], methods: Sequence[str], seed: int, failed: dict[str, str]
) -> pd.DataFrame:
    """The rows of one model; unusable photos and methods are added to `failed`, with the reason."""
    shuffled = shuffle(subject.model, seed)
    scores = []
    for k, (name, path) in enumerate(progress(photos.items(), len(photos), f"check {subject.card.name}")):
        try:
            pixels = subject.see(path)
        except UnreadableImage as error:
            failed[name] = str(error)
            continue
        target = int(subject.probabilities(pixels[None])[0].argmax())
        maps = controls(len(pixels), [seed, k])  # other random maps for each photo
        for method in methods:
            try:
                maps[method] = relevance(subject.model, pixels, target, method, seed)
            except ModelError as error:
                failed.setdefault(f"{subject.card.name}, {method}", str(error))
        for of, plane in maps.items():
            told = _of_shuffled(shuffled, pixels, target, of, seed)
            scores.append({"photo": name, "map": of, **score(subject, pixels, target, plane, told, seed)})
    if not scores:
        raise DataError(f"none of the test photos can be read, e.g. {min(failed)}: {failed[min(failed)]}")
    return summary(pd.DataFrame(scores), subject.card.name, seed)


def score(
    subject: Subject, pixels: NDArray[np.uint8], target: int, plane: Map, told: Map | None, seed: int
) -> dict[str, float]:
    """Deletion and insertion of one map (size, size), and its likeness to `told`, the map of the randomised network."""
    blank = np.broadcast_to(neutral(subject.model).numpy()[0], pixels.shape).round().clip(0, 255).astype(np.uint8)
    blurred = np.stack([gaussian_filter(pixels[..., c], len(pixels) / BLUR) for c in range(3)], axis=-1)
    order = np.lexsort((np.random.default_rng(seed).random(plane.size), -plane.ravel()))  # ties in random order
    return {
        "deletion": _area(subject, series(blank, pixels, order), target),
        "insertion": _area(subject, series(pixels, blurred, order), target),
        "likeness": np.nan if told is None else _likeness(plane, told),
    }


def series(upper: NDArray[np.uint8], lower: NDArray[np.uint8], order: NDArray[np.int64]) -> NDArray[np.uint8]:
    """(STEPS + 1, size, size, 3): `lower`, with more and more pixels of `upper` in this order."""
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    shares = np.linspace(0, len(order), STEPS + 1)[:, None, None, None]
    mixed: NDArray[np.uint8] = np.where(rank.reshape(upper.shape[:2])[None, ..., None] < shares, upper, lower)
    return mixed


def controls(size: int, seed: int | list[int]) -> dict[str, Map]:
    """Baseline maps without a network: random ones as coarse as occlusion's squares, and the photo's centre."""
    noise = np.random.default_rng(seed).random((CELLS, CELLS), np.float32)
    coarse = Image.fromarray(noise).resize((size, size), Image.Resampling.BILINEAR)
    away = (np.indices((size, size)) - (size - 1) / 2) / size
    return {"random": np.asarray(coarse), "centre": np.exp(-8 * (away**2).sum(0)).astype(np.float32)}


def shuffle(model: Deployable, seed: int) -> Deployable:
    """A copy with the weights of each convolution and linear layer permuted."""
    result = copy.deepcopy(model)
    rng = torch.Generator().manual_seed(seed)
    for module in result.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            weight = module.weight.data
            module.weight.data = weight.flatten()[torch.randperm(weight.numel(), generator=rng)].view_as(weight)
    return result


def summary(scores: pd.DataFrame, model: str, seed: int) -> pd.DataFrame:
    """A row per map: means over the photos with their intervals, and the gain over the random map."""
    wide = {name: scores.pivot(index="photo", columns="map", values=name) for name in FIGURES}
    gain = wide["insertion"] - wide["deletion"]
    wide["gain"] = gain.sub(gain["random"], axis=0)
    rows = []
    for name in scores["map"].unique():
        row: dict[str, str | float] = {"model": model, "map": name, "photos": int(wide["deletion"][name].notna().sum())}
        for figure, table in wide.items():
            row |= _with_interval(figure, table[name].dropna().to_numpy(), seed)
        rows.append(row)
    return pd.DataFrame(rows)


def _with_interval(name: str, values: NDArray[np.float64], seed: int) -> dict[str, float]:
    if not len(values):
        return {name: np.nan, f"{name}_low_95": np.nan, f"{name}_high_95": np.nan}
    drawn = np.random.default_rng(seed).choice(values, (RESAMPLES, len(values))).mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {name: float(values.mean()), f"{name}_low_95": float(low), f"{name}_high_95": float(high)}


def _of_shuffled(model: Deployable, pixels: NDArray[np.uint8], target: int, name: str, seed: int) -> Map | None:
    """None for a baseline map, and for a method that works for the trained network only."""
    if name not in METHODS:
        return None
    try:
        return relevance(model, pixels, target, name, seed)
    except ModelError as error:
        log.debug("check     no likeness of %s: %s", name, error)
        return None


def _area(subject: Subject, photos: NDArray[np.uint8], target: int) -> float:
    return float(np.trapezoid(subject.probabilities(photos)[:, target], dx=1 / STEPS))


def _likeness(a: Map, b: Map) -> float:
    """Spearman's correlation; 0 where one of the maps is constant."""
    flat = not (np.ptp(a) and np.ptp(b))
    return 0.0 if flat else float(spearmanr(a.ravel(), b.ravel()).statistic)
