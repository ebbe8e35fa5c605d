"""Photos for training. Each photo's random draws come from (seed, epoch, index), so the number of workers does not matter."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from pipeline.console import leave_interrupts
from pipeline.edge.errors import UnreadableImage
from pipeline.edge.recipe import Recipe, decode
from pipeline.training.augment import Augment, augmentation, separated
from pipeline.training.batched import Step
from pipeline.training.packed import Packed

Item = tuple[int, int, int]
DRAWN = {
    "uniform": 1.0,
    "square_root": 0.5,
    "balanced": 0.0,
}  # by sampler: a label is drawn as its photos to this power


class Example(NamedTuple):
    """A photo (size, size, 3) uint8 RGB, its label, and what was drawn for the steps done on the device."""

    photo: Tensor
    label: int
    drawn: Tensor


class Batch(NamedTuple):
    """Photos (n, size, size, 3) uint8 RGB, labels (n,), draws (n, k) for the steps done on the device, and the reasons of
    photos that were left out."""

    photos: Tensor
    labels: Tensor
    drawn: Tensor
    unreadable: list[str]


class Photos(Dataset[Example | str]):
    """Item (epoch, index, times this photo came before in this epoch) is an example; or, of a photo that cannot be read,
    the reason. batched: what a batch can do at once is left to the device, as `steps`."""

    def __init__(
        self,
        paths: Sequence[Path],
        labels: NDArray[np.int64],
        recipe: Recipe,
        strength: str,
        seed: int,
        erasing: float = 0.0,
        packed: Packed | None = None,
        batched: bool = False,
    ) -> None:
        self.paths, self.labels, self.recipe, self.seed, self.packed = paths, labels, recipe, seed, packed
        self.augment: Augment
        self.steps: list[Step]
        self.augment, self.steps = (
            separated(strength, recipe, erasing) if batched else (augmentation(strength, recipe, erasing), [])
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, item: Item) -> Example | str:
        epoch, index, again = item
        try:
            photo = self.photo(index)
        except UnreadableImage as error:
            return f"{self.paths[index]}: {error}"
        with torch.random.fork_rng(devices=[]):
            # the CPU's generator alone: torch.manual_seed would seed the GPU's too, which nothing puts back
            torch.default_generator.manual_seed(mix(self.seed, epoch, index, *([again] if again else [])))
            varied = self.augment(photo)
            drawn = [step.draw() for step in self.steps]
        pixels = torch.from_numpy(np.array(varied))
        return Example(pixels, int(self.labels[index]), torch.cat(drawn) if drawn else torch.empty(0))

    def photo(self, index: int) -> Image.Image:
        """The photo, upright; raises UnreadableImage."""
        return self.packed.photo(index) if self.packed else decode(self.paths[index], self.recipe.decode_side)


class EpochOrder(Sampler[Item]):
    """Indexes in an order drawn from (seed, epoch), or in sequence where shuffle is off.

    weights: how likely each photo is drawn, with replacement; without them each comes once.
    """

    def __init__(self, n: int, seed: int, shuffle: bool, weights: NDArray[np.float64] | None = None) -> None:
        self.n, self.seed, self.shuffle, self.weights, self.epoch = n, seed, shuffle, weights, 0

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[Item]:
        if not self.shuffle:
            return iter([(self.epoch, index, 0) for index in range(self.n)])
        rng = np.random.default_rng([self.seed, self.epoch])
        if self.weights is None:
            return iter([(self.epoch, int(index), 0) for index in rng.permutation(self.n)])
        items, seen = [], dict.fromkeys(range(self.n), 0)
        for index in rng.choice(self.n, self.n, p=self.weights / self.weights.sum()).tolist():
            items.append((self.epoch, index, seen[index]))
            seen[index] += 1
        return iter(items)


def sampling_weights(labels: NDArray[np.int64], kind: str) -> NDArray[np.float64] | None:
    """Per photo: "balanced" draws each label equally often, "square_root" in proportion to the root of its photos
    (Mahajan et al., "Exploring the Limits of Weakly Supervised Pretraining", 2018), "uniform" needs none."""
    if kind == "uniform":
        return None
    weights: NDArray[np.float64] = np.bincount(labels)[labels].astype(np.float64) ** (DRAWN[kind] - 1)
    return weights


class Shares(Sampler[list[Item]]):
    """This process's share of each batch; a batch too small for two photos per process is left out of training (batch
    statistics of one photo mean nothing) and kept in evaluation."""

    def __init__(self, order: EpochOrder, batch_size: int, rank: int, world: int) -> None:
        drop_last = order.shuffle and len(order) % batch_size < 2 * world and len(order) >= batch_size
        self.rank, self.world = rank, world
        self.batches = BatchSampler(order, batch_size, drop_last)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Item]]:
        parts = (batch[self.rank :: self.world] for batch in self.batches)
        return (part for part in parts if part)  # type: ignore[misc]


def mix(*numbers: int) -> int:
    """One 63-bit seed from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def collate(items: Sequence[Example | str]) -> Batch:
    """The readable photos, if any."""
    read = [item for item in items if not isinstance(item, str)]
    unreadable = [item for item in items if isinstance(item, str)]
    if not read:
        return Batch(torch.empty(0), torch.empty(0, dtype=torch.int64), torch.empty(0), unreadable)
    photos, labels, drawn = zip(*read, strict=True)
    return Batch(torch.stack(photos), torch.tensor(labels), torch.stack(drawn), unreadable)


def begin_worker(worker: int) -> None:
    """To begin a data worker with: Ctrl-C is left to the training, and so is what that cuts off in the middle."""
    leave_interrupts()
    sys.excepthook = _told


def _told(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Show an error of a worker's thread that hands photos over, unless the training has ended and closed its side."""
    if not issubclass(kind, (EOFError, ConnectionError)):
        sys.__excepthook__(kind, error, traceback)


def loader(
    photos: Photos, order: EpochOrder, batch_size: int, workers: int, rank: int = 0, world: int = 1
) -> DataLoader[Batch]:
    """Batches of photos: this process's share of each."""
    quiet = torch.Generator()  # otherwise starting the workers draws from the global generator, like dropout
    return DataLoader(
        photos,  # type: ignore[arg-type]
        batch_sampler=Shares(order, batch_size, rank, world),
        collate_fn=collate,
        num_workers=workers,
        persistent_workers=workers > 0,
        worker_init_fn=begin_worker,
        pin_memory=torch.cuda.is_available(),
        generator=quiet,
    )
