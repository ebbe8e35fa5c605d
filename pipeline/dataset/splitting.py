"""One train / val / test split for all models of an experiment: by species, near-duplicates together, by seed.

The split knows nothing of thresholds, so a threshold never moves a photo. It depends on the photos' bytes and the seed,
not on paths or the order of a listing.
"""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pandas as pd

SPLITS = ("train", "val", "test")


def split(photos: pd.DataFrame, val_share: float, test_share: float, seed: int) -> pd.Series:
    """Split of each row ("" for photos that are not ok). Columns used: species, sha256, duplicate_group, ok.

    Each species gives round(n x share) photos to val and to test, at least one each when it has three or more groups of
    look-alikes; with fewer, all its photos go to train. A group of look-alikes goes whole, with the alphabetically
    first of its species.
    """
    good = photos[photos["ok"]]
    groups = good.groupby("duplicate_group").agg(
        species=("species", "min"), key=("sha256", "min"), n=("sha256", "size")
    )
    groups["draw"] = [hashlib.sha256(f"{seed}:{key}".encode()).hexdigest() for key in groups["key"]]
    chosen: dict[int, str] = {}
    for _, members in groups.sort_values("draw").groupby("species", sort=True):
        chosen.update(_fill(members, val_share, test_share))
    return photos["duplicate_group"].map(chosen).where(photos["ok"], "").fillna("").astype(str)


def _fill(members: pd.DataFrame, val_share: float, test_share: float) -> dict[int, str]:
    total = int(members["n"].sum())
    if len(members) < 3:
        return dict.fromkeys(members.index, "train")
    room = {"test": max(1, round(total * test_share)), "val": max(1, round(total * val_share))}
    chosen: dict[int, str] = {}
    for group, n in zip(members.index, members["n"], strict=True):
        left_for_train = total - sum(members["n"][list(chosen)])
        name = next((s for s in room if room[s] >= n and left_for_train > n), "train")
        chosen[group] = name
        if name != "train":
            room[name] -= n
    for name in room:  # where groups are larger than the room, each split gets the smallest group that can be spared
        if name not in chosen.values():
            held = Counter(chosen.values())
            spare = [group for group in members.index if held[chosen[group]] > 1]
            chosen[min(spare, key=members["n"].__getitem__)] = name
    return chosen


def leaks(photos: pd.DataFrame) -> int:
    """Number of look-alike groups that straddle splits; 0 by construction, checked all the same."""
    good = photos[photos["split"] != ""]
    return int(np.count_nonzero(good.groupby("duplicate_group")["split"].nunique() > 1))
