"""One train / val / test split for all models of an experiment: per species, look-alikes together, seeded or official.

The split knows nothing of thresholds, so a threshold never moves a photo. It depends on the photos' bytes and the seed,
not on paths or the order of a listing.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.errors import DataError

SPLITS = ("train", "val", "test")
STRADDLES = "stays with photos of the official {} part (looks like one, or is of the same observation)"


def split(photos: pd.DataFrame, val_share: float, test_share: float, seed: int) -> pd.Series:
    """Split of each row ("" for photos that are not ok). Columns used: species, sha256, duplicate_group, ok.

    Each species gives round(n x share) photos to val and to test, at least one each when it has three or more groups of
    look-alikes; with fewer, all its photos go to train. A share of 0 makes no such part. A group of look-alikes goes
    whole, with the alphabetically first of its species.
    """
    shares = {name: share for name, share in (("test", test_share), ("val", val_share)) if share > 0}
    good = photos[photos["ok"]]
    groups = good.groupby("duplicate_group").agg(
        species=("species", "min"), key=("sha256", "min"), n=("sha256", "size")
    )
    groups["draw"] = [hashlib.sha256(f"{seed}:{key}".encode()).hexdigest() for key in groups["key"].tolist()]
    chosen: dict[int, str] = {}
    for _, members in groups.sort_values("draw").groupby("species", sort=True):
        chosen.update(_fill(members, shares))
    return photos["duplicate_group"].map(chosen).where(photos["ok"], "").fillna("").astype(str)


def _fill(members: pd.DataFrame, shares: Mapping[str, float]) -> dict[int, str]:
    if len(members) <= len(shares):
        return dict.fromkeys(members.index, "train")
    sizes: dict[int, int] = dict(zip(members.index, members["n"].tolist(), strict=True))
    left_for_train = total = sum(sizes.values())
    room = {name: max(1, round(total * share)) for name, share in shares.items()}
    chosen = dict.fromkeys(sizes, "train")
    for group, n in sizes.items():
        if not any(room.values()):
            break
        name = next((s for s in room if room[s] >= n and left_for_train > n), "train")
        chosen[group] = name
        left_for_train -= n
        if name != "train":
            room[name] -= n
    for name in room:  # where groups are larger than the share, each split gets the smallest group available
        if name not in chosen.values():
            held = Counter(chosen.values())
            spare = [group for group in sizes if held[chosen[group]] > 1]
            chosen[min(spare, key=sizes.__getitem__)] = name
    return chosen


def official_split(photos: pd.DataFrame, val_share: float, seed: int) -> tuple[pd.Series, pd.Series]:
    """Split and reason of each row by the column `official`; photos without an official part count as train.

    Where only one part is held out officially, it is the test part, and val is drawn from train (val_share of it). A
    photo whose look-alikes or observation lie in another part stays only in the last of train, val, test; elsewhere it
    is left out (split "") with the reason.
    """
    parts = set(photos["official"]) - {""}
    if not parts & {"val", "test"}:
        raise DataError("the photos have no official split (train_val_split.official); their format knows of none")
    order = {"": 0, "train": 0, "val": 1 if "test" in parts else 2, "test": 2}
    part = photos["official"].map(order)
    last = part.where(photos["ok"], -1).groupby(photos["duplicate_group"]).transform("max")
    straddles = photos["ok"] & (part < last)
    chosen = part.map(dict(enumerate(SPLITS))).where(photos["ok"] & ~straddles, "")
    if not {"val", "test"} <= parts and val_share:
        drawn = split(photos.assign(ok=chosen == "train"), val_share, 0, seed)
        chosen = chosen.mask(drawn == "val", "val")
    return chosen, last.map(lambda last: STRADDLES.format(SPLITS[last])).where(straddles, "")


def keep_together(groups: NDArray[np.int64], observations: pd.Series) -> NDArray[np.int64]:
    """Groups of look-alikes (-1: none) joined where their photos share an observation ("": unknown); numbered by first
    appearance."""
    known = (observations != "").to_numpy() & (groups >= 0)
    if not known.any():
        return groups
    from scipy.sparse import coo_array  # slow to import
    from scipy.sparse.csgraph import connected_components

    n = int(groups.max()) + 1
    names = pd.factorize(observations[known])[0]
    edges = coo_array((np.ones(len(names), np.int8), (groups[known], n + names)), shape=(n + names.max() + 1,) * 2)
    component = connected_components(edges, directed=False)[1]
    joined = groups.copy()
    joined[groups >= 0] = pd.factorize(component[groups[groups >= 0]])[0]
    return joined


def leaks(photos: pd.DataFrame) -> int:
    """Number of look-alike groups that straddle splits; 0 by construction, checked all the same."""
    good = photos[photos["split"] != ""]
    return int(np.count_nonzero(good.groupby("duplicate_group")["split"].nunique() > 1))
