"""Stage download: fetch the photos that an Open Data query found into the source folder of the next stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.config import Config
from pipeline.console import log
from pipeline.dataset.sources.download import download, failures, read_ledger
from pipeline.dataset.stages.region import PHOTOS, getter_of
from pipeline.dataset.stages.stage import Stage
from pipeline.files import sha256, write_parquet

LEDGER = "ledger.parquet"
TABLE = "photos.parquet"  # beside the photos, for the data set format `table`
_TABLE = dict(
    image_path="path",
    group="group",
    species="species",
    observation="observation",
    licence="licence",
    attribution="holder",
    date="date",
)


def missing(config: Config) -> int:
    """Number of photos that could not be downloaded."""
    return 0 if not _wanted(config) else int((~_ledger(config)["ok"].astype(bool)).sum())


def _wanted(config: Config) -> bool:
    return config.region.photos.download


def _ledger(config: Config) -> pd.DataFrame:
    return read_ledger(config.dataset_dir / LEDGER)


def _inputs(config: Config) -> dict[str, Any]:
    photos = config.region.photos
    return {
        "photos": sha256(config.dataset_dir / PHOTOS),
        "from": [photos.url, photos.size],
        "to": str(config.paths.src_dataset),
    }


def _intact(config: Config) -> bool:
    """Whether every photo is present; missing ones are tried again in each run."""
    ledger = _ledger(config)
    if not (config.paths.src_dataset / TABLE).is_file():
        return False
    return bool(ledger["ok"].all()) and all((config.paths.src_dataset / p).is_file() for p in ledger["image_path"])


def _run(config: Config) -> str:
    settings, root = config.region.photos, config.paths.src_dataset
    photos = pd.read_parquet(config.dataset_dir / PHOTOS)

    def save(ledger: pd.DataFrame) -> None:
        write_parquet(config.dataset_dir / LEDGER, ledger)

    ledger = download(photos, root, getter_of(config), settings.url, settings.size, _ledger(config), save)
    save(ledger)
    write_parquet(root / TABLE, ledger.loc[ledger["ok"], list(_TABLE)].rename(columns=_TABLE))
    for reason, n in list(failures(ledger).items())[:5]:
        log.warning("  %d photos: %s", n, reason)
    if others := _others(root, config.global_.included_classes, ledger):
        log.warning("  %d other photos lie below %s, of which the ledger does not know whose they are", others, root)
    good = int(ledger["ok"].sum())
    return f"{good} photos in {root}, {len(ledger) - good} could not be had; whose they are: {LEDGER}"


def _others(root: Path, groups: list[str], ledger: pd.DataFrame) -> int:
    there = sum(path.is_file() for group in groups for path in (root / group).glob("*/*"))
    return there - int(ledger["ok"].sum())


STAGE = Stage("download", _inputs, lambda config: [LEDGER], _run, _intact, _wanted)
