"""Variants of a photo before it reaches a network: corruptions as in the field, and views for averaging."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from pipeline.edge.recipe import Recipe, preprocess

Views = Callable[[Image.Image, Recipe, str], NDArray[np.uint8]]  # photo, recipe, its path -> (views, size, size, 3)
LEVELS = (1, 2, 3, 4, 5)
BLUR = (0.0025, 0.005, 0.01, 0.015, 0.025)  # standard deviation, as a share of the short side
NOISE = (0.04, 0.08, 0.12, 0.18, 0.26)  # standard deviation, as a share of the range
JPEG = (50, 30, 20, 12, 7)  # quality
BRIGHTNESS = (0.8, 0.65, 0.5, 0.35, 0.2)  # dusk: factor
TURN = 10  # degrees of the turned view


def corrupted(kind: str, level: int, seed: int) -> Views:
    """One view of the corrupted photo, after ImageNet-C (Hendrycks & Dietterich, 2019); noise is seeded per photo."""
    return partial(_corrupted, kind=kind, level=level, seed=seed)


def _corrupted(photo: Image.Image, recipe: Recipe, path: str, kind: str, level: int, seed: int) -> NDArray[np.uint8]:
    return preprocess(CORRUPTIONS[kind](photo, level, np.random.default_rng([seed, *path.encode()])), recipe)[None]


def _blur(photo: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    return photo.filter(ImageFilter.GaussianBlur(BLUR[level - 1] * min(photo.size)))


def _noise(photo: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(photo, np.float32)
    noisy = pixels + rng.normal(0, 255 * NOISE[level - 1], pixels.shape)
    return Image.fromarray(noisy.clip(0, 255).round().astype(np.uint8))


def _jpeg(photo: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    stored = io.BytesIO()
    photo.save(stored, "JPEG", quality=JPEG[level - 1])
    return Image.open(stored).convert("RGB")


def _brightness(photo: Image.Image, level: int, rng: np.random.Generator) -> Image.Image:
    return ImageEnhance.Brightness(photo).enhance(BRIGHTNESS[level - 1])


CORRUPTIONS: dict[str, Callable[[Image.Image, int, np.random.Generator], Image.Image]] = {
    "blur": _blur, "noise": _noise, "jpeg": _jpeg, "brightness": _brightness,
}  # fmt: skip


def nine_views(photo: Image.Image, recipe: Recipe, path: str) -> NDArray[np.uint8]:
    """The photo itself, mirrored, its centre, rotated by ten degrees, and five crops; all deterministic."""
    plain = preprocess(photo, recipe)
    centre = preprocess(photo, replace(recipe, crop=recipe.crop * 224 / 256))
    turned = preprocess(photo.rotate(TURN, Image.Resampling.BILINEAR), recipe)
    side = recipe.size
    large = preprocess(photo, replace(recipe, size=round(side * 240 / 224)))
    end = len(large) - side
    corners = [
        large[y : y + side, x : x + side] for y, x in ((0, 0), (0, end), (end, 0), (end, end), (end // 2, end // 2))
    ]
    return np.stack([plain, plain[:, ::-1], centre, turned, *corners])
