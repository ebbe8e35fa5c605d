"""What photos go through before they are learnt from."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.edge.recipe import Recipe, preprocess
from pipeline.training.augment import augmentation

RECIPE = Recipe(size=32, crop=0.875)


def gradient() -> Image.Image:
    """80 x 60 px; red grows to the right, green downwards, blue is even."""
    y, x = np.mgrid[0:60, 0:80]
    return Image.fromarray(np.stack([x * 255 // 79, y * 255 // 59, np.full_like(x, 128)], 2).astype(np.uint8))


def draws(strength: str, n: int = 60, photo: Image.Image | None = None) -> np.ndarray:
    augment = augmentation(strength, RECIPE)
    torch.manual_seed(0)
    return np.stack([np.asarray(augment(photo or gradient())) for _ in range(n)]).astype(int)


@pytest.mark.parametrize("recipe", [RECIPE, Recipe(size=48, crop=1.0, fit="squash"), Recipe(size=40, crop=0.5)])
def test_none_is_what_the_device_sees(recipe: Recipe) -> None:
    varied = augmentation("none", recipe)(gradient())
    assert np.array_equal(np.asarray(varied), preprocess(gradient(), recipe))


@pytest.mark.parametrize("strength", ["none", "medium", "inat"])
def test_data_workers_can_be_given_it_where_processes_are_not_forked(strength: str) -> None:
    there = pickle.loads(pickle.dumps(augmentation(strength, RECIPE, erasing=0.5)))
    assert there(gradient()).size == (32, 32)


@pytest.mark.parametrize(
    "strength", ["light", "medium", "strong", "inception", "inat", "aggressive", "randaugment", "trivialaugment"]
)
def test_draws_come_from_torchs_generator(strength: str) -> None:
    first, again = draws(strength), draws(strength)
    assert first.shape == (60, 32, 32, 3)
    assert np.array_equal(first, again)
    assert len({photo.tobytes() for photo in first}) > 50  # TrivialAugment may leave nothing but black


def test_photos_are_mirrored_half_of_the_time_and_never_turned_over() -> None:
    for strength in ("light", "medium"):
        photos = draws(strength)
        rising = (photos[:, :, -8:, 0].mean((1, 2)) > photos[:, :, :8, 0].mean((1, 2))).mean()
        assert 0.25 < rising < 0.75
        assert (photos[:, -8:, :, 1].mean((1, 2)) > photos[:, :8, :, 1].mean((1, 2))).all()


def test_crops_keep_the_share_of_the_strength() -> None:
    smallest = {}
    for strength in ("light", "medium"):
        photos = draws(strength, 200, gradient())
        span = (photos.max((1, 2)) - photos.min((1, 2))) / 255
        smallest[strength] = (span[:, 0] * span[:, 1]).min()
    assert 0.5 < smallest["light"] < 0.7
    assert smallest["medium"] < 0.5


def test_light_leaves_colours_alone_and_medium_changes_them_mildly() -> None:
    even = Image.new("RGB", (50, 50), (180, 120, 60))
    assert (draws("light", photo=even) == (180, 120, 60)).all()
    change = np.abs(draws("medium", photo=even) - (180, 120, 60))
    assert 10 < change.max() < 110
    assert (np.diff(draws("medium", photo=even).mean((1, 2)), axis=1) < 0).all()  # still more red than green than blue


def contrast(photos: np.ndarray) -> np.ndarray:
    return photos.mean(3).std((1, 2))


def test_inception_changes_contrast_brightness_and_colour() -> None:
    board = Image.fromarray(np.kron(np.indices((8, 8)).sum(0) % 2, np.ones((10, 10))).astype(np.uint8) * 120 + 60)
    photos = draws("inception", 80, board.convert("RGB"))
    assert contrast(photos).max() > 1.25 * contrast(photos).min() > 0  # of a grey board, which saturation cannot change
    even = draws("inception", 40, Image.new("RGB", (50, 50), (180, 120, 60)))
    assert np.ptp(even.mean((1, 2, 3))) > 10
    assert np.ptp(even.argmax(3)) > 0  # hue may turn which channel is the strongest


def test_inat_turns_a_little_and_erases_a_quarter() -> None:
    even = Image.new("RGB", (50, 50), (250, 250, 250))
    dark = (draws("inat", 300, even) < 140).all(3).mean((1, 2))
    assert 0.2 < (dark > 0.01).mean() < 1  # corners of turned photos are black too


def test_aggressive_shows_half_of_the_photos_at_a_slant_and_turns_all(monkeypatch: pytest.MonkeyPatch) -> None:
    even = Image.new("RGB", (50, 50), (250, 250, 250))
    black = (draws("aggressive", 200, even) < 60).all(3).mean((1, 2))
    assert (black > 0).mean() > 0.8  # a turned photo's corners
    assert black.max() > 0.2  # more than turning by 10 degrees can uncover
    assert black.max() < 0.6


def test_erasing_takes_the_mean_colour_with_its_probability() -> None:
    even = Image.new("RGB", (50, 50), (250, 250, 250))
    augment = augmentation("light", RECIPE, erasing=0.4)
    torch.manual_seed(0)
    grey = np.array([(np.asarray(augment(even)) == 128).all(2).mean() for _ in range(200)])
    assert 0.3 < (grey > 0).mean() < 0.5
    assert 0.015 < grey[grey > 0].min() < grey.max() < 0.36
    assert np.array_equal(np.asarray(augmentation("none", RECIPE, 1.0)(even)), preprocess(even, RECIPE))
