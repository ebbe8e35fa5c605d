"""What the training device does to a batch is what a data worker would have done to each photo."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import draw_photo
from torchvision.transforms.v2 import functional

from pipeline.config import Config
from pipeline.dataset.manifest import learnt_manifest
from pipeline.edge.recipe import Recipe
from pipeline.training import run
from pipeline.training.augment import augmentation, separated
from pipeline.training.batched import Colours, Erasing, varied
from pipeline.training.loop import METRICS
from pipeline.training.run import train_role

RECIPE = Recipe(size=64, crop=1.0)
PHOTOS = [draw_photo(i, 90, 70) for i in range(24)]


def by_worker(strength: str, erasing: float) -> np.ndarray:
    augment = augmentation(strength, RECIPE, erasing)
    found = []
    for seed, photo in enumerate(PHOTOS):
        torch.manual_seed(seed)
        found.append(np.array(augment(photo)))
    return np.stack(found).astype(int)


def by_device(strength: str, erasing: float) -> np.ndarray:
    worker, steps = separated(strength, RECIPE, erasing)
    photos, drawn = [], []
    for seed, photo in enumerate(PHOTOS):
        torch.manual_seed(seed)
        photos.append(torch.from_numpy(np.array(worker(photo))))
        drawn.append(torch.cat([step.draw() for step in steps]))
    return varied(torch.stack(photos), torch.stack(drawn), steps).numpy().astype(int)


@pytest.mark.parametrize(
    ("strength", "erasing"), [("medium", 0.0), ("medium", 0.5), ("inception", 0.0), ("light", 1.0)]
)
def test_the_same_draws_give_the_same_photos_but_for_rounding(strength: str, erasing: float) -> None:
    ours, theirs = by_device(strength, erasing), by_worker(strength, erasing)
    difference = np.abs(ours - theirs)
    assert difference.mean() < 2  # a worker rounds after each change, and turns hue in steps of 1/255
    assert (difference.max(3) > 16).mean() < 0.01
    assert np.abs(by_worker("light", 0.0) - theirs).mean() > 10 * difference.mean()


@pytest.mark.parametrize("strength", ["strong", "inat", "randaugment", "trivialaugment", "aggressive", "none"])
def test_what_needs_single_photos_stays_with_the_workers(strength: str) -> None:
    worker, steps = separated(strength, RECIPE)
    kinds = {"strong": [Colours], "inat": [Colours, Erasing]}
    assert [type(step) for step in steps] == kinds.get(strength, [])
    assert worker(PHOTOS[0]).size == (64, 64)


@pytest.mark.parametrize("kind", range(4))
def test_each_change_of_colour_is_torchvisions(kind: int) -> None:
    change: Callable[..., Any] = (
        functional.adjust_brightness, functional.adjust_contrast, functional.adjust_saturation, functional.adjust_hue,
    )[kind]  # fmt: skip
    planes = torch.rand(5, 3, 9, 7, generator=torch.Generator().manual_seed(0))
    planes[0, :, 0] = 0.5  # grey has no hue
    for factor in (-0.4, 0.1, 0.3) if kind == 3 else (0.2, 1.0, 1.7):
        factors = [1.0, 1.0, 1.0, 0.0]
        factors[kind] = factor
        order = [float(i) for i in range(4)]
        drawn = torch.tensor([order + factors] * 5)
        ours = Colours(None).apply(planes, drawn)  # type: ignore[arg-type]
        assert torch.allclose(ours, change(planes, factor), atol=2e-3)


def test_each_photo_of_a_batch_has_its_own_order_and_factors() -> None:
    one = torch.tensor([[0.0, 1, 2, 3, 1.5, 0.5, 1, 0]])
    two = torch.tensor([[1.0, 0, 2, 3, 1.5, 0.5, 1, 0]])
    planes = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    colours = Colours(None)  # type: ignore[arg-type]
    alone = torch.cat([colours.apply(planes, one), colours.apply(planes, two)])
    together = colours.apply(torch.cat([planes, planes]), torch.cat([one, two]))
    assert torch.equal(alone, together)
    assert not torch.allclose(alone[0], alone[1])


def test_a_share_of_the_photos_keeps_its_colours() -> None:
    colours = Colours(augmentation("medium", RECIPE).transforms[2].jitter, 0.3)  # type: ignore[attr-defined]
    torch.manual_seed(0)
    drawn = torch.stack([colours.draw() for _ in range(400)])
    unchanged = (drawn[:, 4:] == torch.tensor([1.0, 1, 1, 0])).all(1)
    assert 0.62 < unchanged.float().mean() < 0.78


def losses(config: Config) -> list[float]:
    (folder,) = train_role(config, "main")
    return pd.read_csv(folder / METRICS)["train_loss"].tolist()


def test_a_training_varies_batches_on_the_device_whatever_the_number_of_workers(toy: Callable[..., Config]) -> None:
    on_device = ("main.augment=medium", "main.augment_on=device", "main.erasing=0.5", "main.epochs=2")
    first = losses(toy(*on_device, "experiment=first"))
    assert losses(toy(*on_device, "experiment=again", "main.workers=2")) == first
    other = losses(toy(*on_device, "experiment=other", "main.augment=light"))
    by_workers = losses(toy(*on_device, "experiment=workers", "main.augment_on=workers"))
    assert by_workers != first  # rounding, which later epochs magnify
    assert abs(by_workers[0] - first[0]) < 0.2 * abs(other[0] - first[0])


def test_a_gpu_varies_batches_unless_told_otherwise(
    toy: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    def steps(*settings: str) -> int:
        config = toy("main.augment=medium", *settings)
        manifest = learnt_manifest(config)
        return len(
            run._photos(config, manifest, "train", run._card(config, manifest, config.main, "main"), config.main).steps
        )

    assert steps() == 0
    assert steps("main.augment_on=device") == 1
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert steps() == 1
    assert steps("main.augment_on=workers") == 0
