"""Test sets with a chosen imbalance, drawn from the test split.

The rule of the DI1, DI2, DI3 sets: windows of the ranked species each get a share of the photos, the species behind
them the rest; within a window a species gets photos in proportion to its test photos.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.errors import DataError

BALANCED = "balanced"
COLUMNS = ["image_path", "group", "species", "tier", "rank"]


class DrawnSet(NamedTuple):
    """rows: a table with COLUMNS, one row per photo; distribution: per species tier, rank, target, actual, available;
    summary: size asked for, size reached, and why it is smaller."""

    rows: pd.DataFrame
    distribution: dict[str, dict[str, int]]
    summary: dict[str, Any]


def draw_test_sets(
    test: pd.DataFrame, ranking: Sequence[str], sets: Mapping[str, Sequence[float]], window: int, size: int, seed: int
) -> dict[str, DrawnSet]:
    """The balanced set and one per entry of `sets`, of the test split's rows (image_path, group, species).

    sets: shares of the first, second, ... window of `window` species, in rank order; the species behind them get what
    is left of 1. ranking: every species, most frequent first. A set is at most `size` photos, each at most once. Where
    a tier has too few, the whole set shrinks, so that its shares stay true; where it has none, the set is empty; the
    summary says why. The draw depends on the seed, the set's name and the photos' paths, not on the order of the rows.
    """
    available = test["species"].value_counts()
    if unknown := sorted(set(available.index) - set(ranking)):
        raise DataError(f"{len(unknown)} species of the test split have no rank, e.g. {unknown[0]!r}")
    photos = pd.Series([int(available.get(name, 0)) for name in ranking], index=list(ranking))
    made = {BALANCED: _balanced(photos, size)}
    for name, shares in sets.items():
        made[name] = _imbalanced(photos, shares, window, size)
    return {name: _draw(test, photos, *parts, f"{seed}:{name}") for name, parts in made.items()}


Parts = tuple["pd.Series[int]", "pd.Series[int]", dict[str, Any]]  # tier and target of each species, summary


def _balanced(photos: pd.Series[int], size: int) -> Parts:
    """Equally many photos of every species that has test photos."""
    there = photos[photos > 0]
    each = min(size // len(there), int(there.min())) if len(there) else 0
    summary: dict[str, Any] = {"asked": size, "photos_per_species": each}
    if there.empty:
        summary["note"] = "the test split is empty; lower train_val_split.train_size or add photos"
    elif each == 0:
        summary["note"] = f"{len(there)} species do not fit into {size} photos"
    elif each < size // len(there):
        summary["note"] = f"{there.idxmin()} has only {each} test photos"
    return pd.Series(1, photos.index), (photos > 0) * each, summary


def _imbalanced(photos: pd.Series[int], shares: Sequence[float], window: int, size: int) -> Parts:
    rest = round(1 - sum(shares), 9)
    every = np.array([*shares, rest] if rest > 0 else shares)
    tier = pd.Series(np.minimum(np.arange(len(photos)) // window, len(every) - 1) + 1, photos.index)
    if rest <= 0:  # species behind the last window are in no tier
        tier.iloc[window * len(shares) :] = 0
    have = np.array([int(photos[tier == k].sum()) for k in range(1, len(every) + 1)])
    reached = min(size, int(np.floor((have / every).min() + 1e-9)))
    target = pd.Series(0, photos.index)
    for k, seats in enumerate(apportion(every, reached), 1):
        target[tier == k] = apportion(photos[tier == k].to_numpy(), int(seats))
    summary: dict[str, Any] = {"asked": size, "shares": [round(float(share), 9) for share in every], "window": window}
    if reached < size:
        short = int(np.argmin(have / every))
        which = f"tier {short + 1} of {len(every)}"
        summary["note"] = f"{which} has only {have[short]} test photos, and the shares are kept"
    return tier, target, summary


def apportion(weights: NDArray[Any], seats: int) -> NDArray[np.int64]:
    """Whole numbers that sum to `seats`, in proportion to the weights (Hamilton's largest remainders; ties go to the
    first). Where the seats suffice, each weight above 0 gets at least one. With whole weights and no more seats than
    their sum, none gets more than its weight."""
    result = np.zeros(len(weights), np.int64)
    free = weights > 0
    lifted = free if seats >= free.sum() else np.zeros_like(free)
    while lifted.any():  # a share below one seat gets one; the others divide the rest
        lifted = free & (weights * seats < weights[free].sum())
        result[lifted] = 1
        free, seats = free & ~lifted, seats - int(lifted.sum())
    exact = np.where(free, weights, 0) * seats / max(weights[free].sum(), 1e-300)
    result += np.floor(exact + 1e-9).astype(np.int64)
    left = seats - int(np.floor(exact + 1e-9).sum())
    result[np.argsort(np.floor(exact + 1e-9) - exact, kind="stable")[:left]] += 1
    return result


def _draw(
    test: pd.DataFrame, photos: pd.Series[int], tier: pd.Series[int], target: pd.Series[int], summary: dict[str, Any],
    seed: str,
) -> DrawnSet:  # fmt: skip
    rank = {name: i for i, name in enumerate(photos.index, 1)}
    ordered = test.sort_values("image_path")
    parts = []
    for name, members in ordered.groupby("species"):
        generator = np.random.default_rng([*seed.encode(), *str(name).encode()])
        chosen = np.sort(generator.permutation(len(members))[: target[name]])
        parts.append(members.iloc[chosen])
    rows = pd.concat([ordered.iloc[:0], *parts])[["image_path", "group", "species"]]
    rows = rows.assign(tier=tier[rows["species"]].to_numpy(), rank=rows["species"].map(rank))
    rows = rows.sort_values(["rank", "image_path"]).reset_index(drop=True)
    actual = rows["species"].value_counts()
    distribution = {
        name: {
            "tier": int(tier[name]), "rank": rank[name], "target": int(target[name]),
            "actual": int(actual.get(name, 0)), "available": int(photos[name]),
        }
        for name in photos.index
    }  # fmt: skip
    return DrawnSet(rows, distribution, {**summary, "photos": len(rows), "species": rows["species"].nunique()})
