"""Photos for training. Each photo's random draws come from (seed, epoch, index), so workers do not change the result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from pipeline.edge.errors import UnreadableImage
from pipeline.edge.recipe import Recipe, decode
from pipeline.errors import DataError
from pipeline.training.augment import augmentation


class Photos(Dataset[tuple[Tensor, int]]):
    """Item (epoch, index) is a photo as uint8 (size, size, 3), RGB, and its label."""

    def __init__(
        self, paths: Sequence[Path], labels: NDArray[np.int64], recipe: Recipe, strength: str, seed: int
    ) -> None:
        self.paths, self.labels, self.recipe, self.seed = paths, labels, recipe, seed
        self.augment = augmentation(strength, recipe)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, item: tuple[int, int]) -> tuple[Tensor, int]:
        epoch, index = item
        try:
            photo = decode(self.paths[index], self.recipe.decode_side)
        except UnreadableImage as error:
            raise DataError(f"{self.paths[index]}: {error}; run dataset_orchestrator.py again") from error
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mix(self.seed, epoch, index))
            varied = self.augment(photo)
        return torch.from_numpy(np.array(varied)), int(self.labels[index])


class EpochOrder(Sampler[tuple[int, int]]):
    """Items (epoch, index) in an order drawn from (seed, epoch), or in sequence where shuffle is off."""

    def __init__(self, n: int, seed: int, shuffle: bool) -> None:
        self.n, self.seed, self.shuffle, self.epoch = n, seed, shuffle, 0

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.n) if self.shuffle else range(self.n)
        return iter([(self.epoch, int(index)) for index in order])


def mix(*numbers: int) -> int:
    """One 63-bit seed out of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def loader(photos: Photos, order: EpochOrder, batch_size: int, workers: int) -> DataLoader[tuple[Tensor, Tensor]]:
    """Batches of uint8 photos (n, size, size, 3) and labels (n,). A last batch of one joins none: it is left out of
    training (batch statistics of one photo mean nothing) and kept in evaluation."""
    drop_last = order.shuffle and len(photos) % batch_size == 1 and len(photos) > batch_size
    batches = BatchSampler(order, batch_size, drop_last)  # type: ignore[arg-type]
    quiet = torch.Generator()  # else starting the workers draws from the global generator, which dropout draws from too
    return DataLoader(
        photos,  # type: ignore[arg-type]
        batch_sampler=batches,
        num_workers=workers,
        persistent_workers=workers > 0,
        generator=quiet,
    )
