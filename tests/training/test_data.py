"""Photos for training: the draws depend on seed, epoch and photo, never on workers or order."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import draw_photo

from pipeline.dataset.verify import check_unreadable
from pipeline.edge.recipe import Recipe, decode, preprocess
from pipeline.errors import DataError
from pipeline.training.data import EpochOrder, Photos, Shares, loader, mix, sampling_weights

RECIPE = Recipe(size=32, decode_side=64)
ROOT = Path(__file__).resolve().parents[2]


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
        found = [(batch.photos.clone(), batch.labels.clone()) for batch in batches]
    return found


def test_workers_do_not_change_the_photos(paths: list[Path]) -> None:
    alone, helped = (epoch(photos(paths), 1, workers) for workers in (0, 2))
    assert len(alone) == len(helped) == 2
    for (photo, label), (other, other_label) in zip(alone, helped, strict=True):
        assert photo.dtype == torch.uint8
        assert photo.shape == (4, 32, 32, 3)
        assert torch.equal(photo, other)
        assert torch.equal(label, other_label)


def test_a_photo_seeds_no_generator_but_the_cpus_which_is_put_back(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    torch.manual_seed(5)
    assert seeded == [5]
    before = torch.random.get_rng_state()
    assert photos(paths)[0, 1, 0][0].shape == (32, 32, 3)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert seeded == [5]


def test_order_does_not_change_the_photos(paths: list[Path]) -> None:
    forward = [photos(paths)[0, i, 0][0] for i in range(9)]
    torch.manual_seed(99)
    data = photos(paths)
    backward = [data[0, i, 0][0] for i in reversed(range(9))]
    assert all(torch.equal(a, b) for a, b in zip(forward, reversed(backward), strict=True))


def test_photos_differ_by_epoch_and_seed_and_place(paths: list[Path], tmp_path: Path) -> None:
    twin = Path(shutil.copy(paths[0], tmp_path / "twin.jpg"))
    data = photos([paths[0], twin])
    varied = [data[0, 0, 0], data[1, 0, 0], data[0, 1, 0], data[0, 0, 1], photos([paths[0]], seed=4)[0, 0, 0]]
    assert len({photo.numpy().tobytes() for photo, *_ in varied}) == 5


def test_dropouts_generator_is_left_alone(paths: list[Path]) -> None:
    before = torch.get_rng_state()
    photos(paths)[0, 0, 0]
    assert torch.equal(torch.get_rng_state(), before)


def test_photos_to_choose_by_are_what_the_device_sees(paths: list[Path]) -> None:
    photo, label, _ = photos(paths, "none")[5, 2, 0]
    assert np.array_equal(photo.numpy(), preprocess(decode(paths[2], RECIPE.decode_side), RECIPE))
    assert label == 2


def test_each_epoch_has_every_photo_once_in_its_own_order() -> None:
    order = EpochOrder(50, 3, shuffle=True)
    first, again = list(order), list(EpochOrder(50, 3, shuffle=True))
    order.epoch = 1
    second = list(order)
    assert first == again
    assert sorted(first) == [(0, i, 0) for i in range(50)]
    assert sorted(second) == [(1, i, 0) for i in range(50)]
    assert [i for _, i, _ in first] != [i for _, i, _ in second] != list(range(50))
    assert list(EpochOrder(4, 3, shuffle=False)) == [(0, i, 0) for i in range(4)]


@pytest.mark.parametrize(
    ("n", "training", "evaluation"), [(9, [4, 4], [4, 4, 1]), (8, [4, 4], [4, 4]), (7, [4, 3], [4, 3]), (1, [1], [1])]
)
def test_last_batch_of_one_photo_is_left_out_of_training_only(
    paths: list[Path], n: int, training: list[int], evaluation: list[int]
) -> None:
    data = photos(paths[:n])
    for shuffle, sizes in ((True, training), (False, evaluation)):
        batches = loader(data, EpochOrder(n, 0, shuffle), 4, 0)
        assert [len(batch.labels) for batch in batches] == sizes
        assert len(batches) == len(sizes)


def test_unreadable_photo_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no photo")
    assert re.fullmatch(
        r".*text\.jpg: is no image in a format that Pillow knows", photos([tmp_path / "text.jpg"])[0, 0, 0]
    )


def test_seeds_differ_by_every_number_and_by_their_order() -> None:
    seeds = [mix(a, b, c) for a in range(5) for b in range(5) for c in range(5)]
    assert len(set(seeds)) == 125
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert mix(1, 2, 3) == mix(1, 2, 3)


LABELS = np.repeat([0, 1, 2], [900, 90, 10])


@pytest.mark.parametrize(
    ("kind", "shares"), [("balanced", [1 / 3, 1 / 3, 1 / 3]), ("square_root", np.sqrt([900, 90, 10]) / 42.649)]
)
def test_samplers_draw_the_labels_in_their_shares(kind: str, shares: list[float]) -> None:
    order = EpochOrder(len(LABELS), 1, True, sampling_weights(LABELS, kind))
    drawn = np.concatenate([LABELS[[i for _, i, _ in order]] for order.epoch in range(5)])
    assert len(drawn) == 5 * len(LABELS)
    assert np.bincount(drawn) / len(drawn) == pytest.approx(shares, abs=0.02)


def test_photo_that_is_drawn_again_is_varied_anew() -> None:
    items = list(EpochOrder(len(LABELS), 1, True, sampling_weights(LABELS, "balanced")))
    assert len(set(items)) == len(items)
    assert max(again for _, _, again in items) > 10
    assert items == list(EpochOrder(len(LABELS), 1, True, sampling_weights(LABELS, "balanced")))
    assert sampling_weights(LABELS, "uniform") is None


def test_processes_share_each_batch_and_miss_no_photo(paths: list[Path]) -> None:
    data = photos(paths)
    for shuffle in (True, False):
        order = EpochOrder(9, 3, shuffle)
        alone = [batch.labels.tolist() for batch in loader(data, order, 4, 0)]
        parts = [[batch.labels.tolist() for batch in loader(data, order, 4, 0, rank, 2)] for rank in (0, 1)]
        together = [sorted(chain(*shares)) for shares in zip(*parts, strict=False)]
        assert [sorted(batch) for batch in alone][: len(together)] == together
        assert sorted(chain(*chain(*parts))) == sorted(chain(*alone))


def test_unreadable_photo_is_left_out_of_its_batch_and_told(paths: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(paths[0].read_bytes()[:500])
    (batch,) = loader(photos([paths[0], broken, paths[1]]), EpochOrder(3, 0, shuffle=False), 4, 0)
    assert batch.labels.tolist() == [0, 2]
    assert len(batch.photos) == 2
    assert len(batch.unreadable) == 1
    assert "broken.jpg: cannot be decoded" in batch.unreadable[0]


def test_more_than_one_percent_unreadable_is_an_error() -> None:
    reasons = [f"{i}.jpg: cannot be decoded" for i in range(3)]
    check_unreadable(reasons, 300)
    check_unreadable([], 1)
    with pytest.raises(DataError, match=r"3 of 299 photos cannot be read, e\.g\. 0\.jpg: .*; run dataset_orch"):
        check_unreadable(reasons, 299)
    with pytest.raises(DataError):
        check_unreadable(reasons, 1000, whole=True)


@pytest.mark.parametrize(
    ("photos", "batch", "processes"), [(26, 8, 4), (26, 64, 4), (25, 12, 4), (64, 8, 4), (9, 4, 1)]
)
def test_every_process_gets_as_many_batches_of_two_photos_at_least(photos: int, batch: int, processes: int) -> None:
    shares = [list(Shares(EpochOrder(photos, 0, True), batch, rank, processes)) for rank in range(processes)]
    assert len({len(one) for one in shares}) == 1
    assert min(len(part) for one in shares for part in one) >= 2
    indexes = [index for one in shares for part in one for _, index, _ in part]
    assert len(indexes) == len(set(indexes)) > photos - 2 * processes


@pytest.mark.parametrize(
    ("error", "told"), [("EOFError()", False), ("ConnectionResetError()", False), ("OSError()", True)]
)
def test_a_data_worker_is_silent_where_the_training_has_left_it(error: str, told: bool) -> None:
    code = f"from pipeline.training.data import begin_worker; begin_worker(0); raise {error}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ("Traceback" in done.stderr) == told
