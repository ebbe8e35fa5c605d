"""Stage split: look-alikes found, and each photo given to train, val or test."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from pipeline.config import Config
from pipeline.dataset.duplicates import SIDE, duplicate_groups
from pipeline.dataset.splitting import SPLITS, leaks, split
from pipeline.dataset.stages.stage import Stage
from pipeline.dataset.stages.verify import VERIFIED
from pipeline.files import replacing, sha256

ROWS = "split.parquet"


def _inputs(config: Config) -> dict[str, Any]:
    part = config.train_val_split
    return {
        "photos": sha256(config.dataset_dir / VERIFIED),
        "shares": [part.val_share, part.test_share],
        "seed": config.seed,
        "near_duplicates": config.dataset.near_duplicates,
    }


def _run(config: Config) -> str:
    table = pd.read_parquet(config.dataset_dir / VERIFIED)
    table["duplicate_group"] = _duplicates(table, config.dataset.near_duplicates)
    part = config.train_val_split
    table["split"] = split(table, part.val_share, part.test_share, config.seed)
    if straddling := leaks(table):
        raise AssertionError(f"{straddling} groups of look-alikes straddle splits")
    with replacing(config.dataset_dir / ROWS) as temporary:
        table.drop(columns="thumbnail").to_parquet(temporary, index=False)
    good = table[table["ok"]]
    twins = len(good) - good["duplicate_group"].nunique()
    sizes = ", ".join(f"{name} {n}" for name in SPLITS if (n := int((table["split"] == name).sum())))
    return f"{sizes}; {twins} photos look like another one and stay in its split"


def _duplicates(table: pd.DataFrame, near: bool) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Group of each photo, -1 for bad ones; equal files share one, and with `near` look-alikes too."""
    groups = np.full(len(table), -1, dtype=np.int64)
    good = table[table["ok"]]
    equal = pd.factorize(good["sha256"])[0]
    if near:
        flat = np.frombuffer(b"".join(good["thumbnail"][~good["sha256"].duplicated()]), np.uint8)
        equal = duplicate_groups(flat.reshape(-1, SIDE, SIDE))[equal]
    groups[table["ok"]] = equal
    return groups


STAGE = Stage("split", _inputs, lambda config: [ROWS], _run)
