"""Stage split: find look-alikes, and assign each photo to train, val or test."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from pipeline.config import Config
from pipeline.dataset.duplicates import SIDE, duplicate_groups
from pipeline.dataset.splitting import SPLITS, keep_together, leaks, official_split, split
from pipeline.dataset.stages.stage import Stage
from pipeline.dataset.stages.verify import VERIFIED
from pipeline.errors import DataError
from pipeline.files import sha256, write_parquet

ROWS = "split.parquet"


def _inputs(config: Config) -> dict[str, Any]:
    part = config.train_val_split
    return {
        "photos": sha256(config.dataset_dir / VERIFIED),
        "shares": [part.val_share, part.test_share],
        "official": part.official,
        "seed": config.seed,
        "near_duplicates": config.dataset.near_duplicates,
        "min_images": config.dataset.min_images,
    }


def _run(config: Config) -> str:
    table = pd.read_parquet(config.dataset_dir / VERIFIED)
    table["duplicate_group"] = keep_together(_duplicates(table, config), table["observation"])
    table = _divide(table, config)
    if straddling := leaks(table):
        raise AssertionError(f"{straddling} groups of look-alikes straddle splits")
    write_parquet(config.dataset_dir / ROWS, table.drop(columns=["thumbnail", "official"]))
    used = table[table["split"] != ""]
    twins = len(used) - used["duplicate_group"].nunique()
    sizes = ", ".join(f"{name} {n}" for name in SPLITS if (n := int((table["split"] == name).sum())))
    left_out = f"; {n} left out" if (n := int(table["ok"].sum()) - len(used)) else ""
    return f"{sizes}; {twins} photos look like another one and stay in its split{left_out}"


def _divide(table: pd.DataFrame, config: Config) -> pd.DataFrame:
    """The table with its splits; a readable photo without a split gets a reason."""
    part, least = config.train_val_split, config.dataset.min_images
    photos = table["ok"].groupby(table["species"]).transform("sum")
    few = table["ok"] & (photos < least)
    usable = table.assign(ok=table["ok"] & ~few)
    if not usable["ok"].any():
        raise DataError(f"no species has {least} readable photos; lower dataset.min_images")
    if not config.dataset.verify:
        usable["sha256"] = usable["image_path"]  # the key of the draw, as there are no hashes
    reason = table["reason"].mask(few, f"its species has fewer than {least} photos (dataset.min_images)")
    if part.official:
        chosen, straddles = official_split(usable, part.val_share, config.seed)
        reason = reason.mask(straddles != "", straddles)
    else:
        chosen = split(usable, part.val_share, part.test_share, config.seed)
    return table.assign(split=chosen, reason=reason)


def _duplicates(table: pd.DataFrame, config: Config) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Group of each photo, -1 for bad ones; equal files share one, and look-alikes too where near_duplicates is set."""
    if not config.dataset.verify:
        return np.arange(len(table))
    groups = np.full(len(table), -1, dtype=np.int64)
    good = table[table["ok"]]
    equal = pd.factorize(good["sha256"])[0]
    if config.dataset.near_duplicates:
        flat = np.frombuffer(b"".join(good["thumbnail"][~good["sha256"].duplicated()]), np.uint8)
        equal = duplicate_groups(flat.reshape(-1, SIDE, SIDE))[equal]
    groups[table["ok"]] = equal
    return groups


STAGE = Stage("split", _inputs, lambda config: [ROWS], _run)
