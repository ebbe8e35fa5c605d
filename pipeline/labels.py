"""Label spaces of an experiment: all species, the dominant ones with "Other", the caches' windows; head and tail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.edge.labels import OTHER, label_hash
from pipeline.errors import LabelSpaceError

__all__ = ["HEAD_ABOVE", "OTHER", "TAIL_BELOW", "LabelSpace", "long_tail", "translate", "window"]
HEAD_ABOVE, TAIL_BELOW = 100, 20  # training photos: many-shot and few-shot of ImageNet-LT (Liu et al., CVPR 2019)


def translate(source: Sequence[str], target: Sequence[str]) -> NDArray[np.int64]:
    """Index in `target` of each name of `source`; for absent names the index of "Other", or -1 where there is none."""
    index = {name: i for i, name in enumerate(target)}
    return np.array([index.get(name, index.get(OTHER, -1)) for name in source], dtype=np.int64)


@dataclass(frozen=True)
class LabelSpace:
    """An ordered tuple of names; "Other", where there is one, is the last."""

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names):
            twice = sorted({name for name in self.names if self.names.count(name) > 1})
            raise LabelSpaceError(f"a label space names {twice} twice; labels are joined by name, so names must differ")
        if OTHER in self.names[:-1]:
            raise LabelSpaceError(f'"{OTHER}" must be the last label')

    def __len__(self) -> int:
        return len(self.names)

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits that stand for names and order."""
        return label_hash(self.names)

    @property
    def has_other(self) -> bool:
        """Whether the last label is "Other"."""
        return bool(self.names) and self.names[-1] == OTHER

    def ids(self, species: Sequence[str]) -> NDArray[np.int64]:
        """Label of each name; a name outside the space is "Other", or an error where the space has no "Other"."""
        ids = translate(species, self.names)
        if (ids < 0).any():
            missing = sorted({name for name, i in zip(species, ids, strict=True) if i < 0})
            raise LabelSpaceError(
                f"{len(missing)} species are not in the label space {self.hash}, e.g. {missing[0]!r}: "
                "model and data set are of different experiments; train again or use the matching data set"
            )
        return ids


def window(ranking: Sequence[str], n_species: int, start_rank: int) -> LabelSpace:
    """The label space of a cache: species of ranks start_rank+1 .. start_rank+n in rank order, then "Other" (rule D3).

    Every other species, also the more frequent ones before start_rank, is "Other".
    """
    chosen = tuple(ranking[start_rank : start_rank + n_species])
    if start_rank < 0 or not chosen:
        raise LabelSpaceError(f"start_rank {start_rank} is outside the {len(ranking)} ranked species")
    if len(chosen) == len(ranking):
        raise LabelSpaceError(
            'the window holds every species, so nothing is left for "Other"; lower the threshold, or set cache.species'
        )
    return LabelSpace((*chosen, OTHER))


def long_tail(train: Mapping[str, int]) -> dict[str, list[str]]:
    """Species by number of training photos: head (more than 100), middle (20 to 100), tail (fewer than 20); without "Other"."""
    parts: dict[str, list[str]] = {"head": [], "middle": [], "tail": []}
    for name, n in train.items():
        if name != OTHER:
            parts["head" if n > HEAD_ABOVE else "tail" if n < TAIL_BELOW else "middle"].append(name)
    return parts
