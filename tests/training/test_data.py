"""Photos for training: the draws depend on seed, epoch and photo, never on workers or order."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import draw_photo

from pipeline.edge.recipe import Recipe, decode, preprocess
from pipeline.errors import DataError
from pipeline.training.data import EpochOrder, Photos, loader, mix

RECIPE = Recipe(size=32, decode_side=64)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photos")
    files = [folder / f"{i}.jpg" for i in range(9)]
    for i, file in enumerate(files):
        draw_photo(i, 300, 200).save(file)
    return files


def photos(paths: list[Path], strength: str = "strong", seed: int = 3) -> Photos:
    return Photos(paths, np.arange(len(paths)), RECIPE, strength, seed)


def epoch(data: Photos, number: int, workers: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    order = EpochOrder(len(data), data.seed, shuffle=True)
    batches = loader(data, order, 4, workers)
    found = []
    for order.epoch in range(number + 1):  # the earlier epochs too, as a training has them
        found = [(photo.clone(), label.clone()) for photo, label in batches]
    return found


def test_workers_do_not_change_the_photos(paths: list[Path]) -> None:
    alone, helped = (epoch(photos(paths), 1, workers) for workers in (0, 2))
    assert len(alone) == len(helped) == 2
    for (photo, label), (other, other_label) in zip(alone, helped, strict=True):
        assert photo.dtype == torch.uint8
        assert photo.shape == (4, 32, 32, 3)
        assert torch.equal(photo, other)
        assert torch.equal(label, other_label)


def test_order_does_not_change_the_photos(paths: list[Path]) -> None:
    forward = [photos(paths)[0, i][0] for i in range(9)]
    torch.manual_seed(99)
    data = photos(paths)
    backward = [data[0, i][0] for i in reversed(range(9))]
    assert all(torch.equal(a, b) for a, b in zip(forward, reversed(backward), strict=True))


def test_photos_differ_by_epoch_and_seed_and_place(paths: list[Path], tmp_path: Path) -> None:
    twin = Path(shutil.copy(paths[0], tmp_path / "twin.jpg"))
    data = photos([paths[0], twin])
    varied = [data[0, 0], data[1, 0], data[0, 1], photos([paths[0]], seed=4)[0, 0]]
    assert len({photo.numpy().tobytes() for photo, _ in varied}) == 4


def test_dropouts_generator_is_left_alone(paths: list[Path]) -> None:
    before = torch.get_rng_state()
    photos(paths)[0, 0]
    assert torch.equal(torch.get_rng_state(), before)


def test_photos_to_choose_by_are_what_the_device_sees(paths: list[Path]) -> None:
    photo, label = photos(paths, "none")[5, 2]
    assert np.array_equal(photo.numpy(), preprocess(decode(paths[2], RECIPE.decode_side), RECIPE))
    assert label == 2


def test_each_epoch_has_every_photo_once_in_its_own_order() -> None:
    order = EpochOrder(50, 3, shuffle=True)
    first, again = list(order), list(EpochOrder(50, 3, shuffle=True))
    order.epoch = 1
    second = list(order)
    assert first == again
    assert sorted(first) == [(0, i) for i in range(50)]
    assert sorted(second) == [(1, i) for i in range(50)]
    assert [i for _, i in first] != [i for _, i in second] != list(range(50))
    assert list(EpochOrder(4, 3, shuffle=False)) == [(0, i) for i in range(4)]


@pytest.mark.parametrize(
    ("n", "training", "evaluation"), [(9, [4, 4], [4, 4, 1]), (8, [4, 4], [4, 4]), (7, [4, 3], [4, 3]), (1, [1], [1])]
)
def test_last_batch_of_one_photo_is_left_out_of_training_only(
    paths: list[Path], n: int, training: list[int], evaluation: list[int]
) -> None:
    data = photos(paths[:n])
    for shuffle, sizes in ((True, training), (False, evaluation)):
        batches = loader(data, EpochOrder(n, 0, shuffle), 4, 0)
        assert [len(labels) for _, labels in batches] == sizes
        assert len(batches) == len(sizes)


def test_unreadable_photo_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no photo")
    with pytest.raises(DataError, match=r"text\.jpg: is no image .*; run dataset_orchestrator\.py again"):
        photos([tmp_path / "text.jpg"])[0, 0]


def test_seeds_differ_by_every_number_and_by_their_order() -> None:
    seeds = [mix(a, b, c) for a in range(5) for b in range(5) for c in range(5)]
    assert len(set(seeds)) == 125
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert mix(1, 2, 3) == mix(1, 2, 3)
