"""The manifest: one row per photo, read by every later step. The same inputs give the same bytes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.config import Config
from pipeline.dataset.composition import Composition, compose
from pipeline.dataset.splitting import SPLITS
from pipeline.errors import DataError, ModelError
from pipeline.files import read_arrow, write_arrow
from pipeline.labels import LabelSpace

COLUMNS = ["image_path", "group", "species", "label_id", "split"]
COLUMNS += ["sha256", "width", "height", "duplicate_group", "ok", "reason"]
KNOWN = ["observation", "licence", "holder", "date"]  # columns that are there when the format knows them of any photo
LEARNT = ["image_path", "sha256", "species", "split"]  # what trained weights and their figures depend on


@dataclass(frozen=True)
class Manifest:
    """rows: a table with COLUMNS, and those of KNOWN that are known; root: what image_path is relative to; labels: the
    space of label_id, of which the species' models do not depend."""

    rows: pd.DataFrame
    root: Path
    labels: LabelSpace
    seed: int

    @cached_property
    def hash(self) -> str:
        """Twelve hexadecimal digits that stand for the photos in their order, their species and their split."""
        told = hashlib.sha256()
        for name in LEARNT:
            told.update("\0".join([name, *self.rows[name].fillna("")]).encode())
        return told.hexdigest()[:12]

    def part(self, split: str) -> pd.DataFrame:
        """Rows of one split ("train", "val", "test"), in order."""
        return self.rows[self.rows["split"] == split].reset_index(drop=True)

    def composition(self) -> Composition:
        """Images per species over all splits."""
        good = self.rows[self.rows["split"] != ""]
        return compose(zip(good["group"].tolist(), good["species"].tolist(), strict=True))

    def check_trained_on(self, data_hash: str, who: str, fix: str = "train it again") -> None:
        """Refuse a model that was trained on another manifest: it may have seen the photos that judge it."""
        if data_hash != self.hash:
            raise ModelError(f"{who} was trained on manifest {data_hash}, this one is {self.hash}; {fix}")

    def species(self) -> LabelSpace:
        """The label space of a main model: every species, by group, then by name."""
        return LabelSpace(tuple(name for counts in self.composition().values() for name in counts))


def write_manifest(folder: Path, rows: pd.DataFrame, labels: LabelSpace, seed: int) -> None:
    """Write dataset_manifest.parquet and its train/val/test views into `folder`."""
    rows = rows[COLUMNS + [name for name in KNOWN if name in rows and rows[name].any()]]
    metadata = {"labels": list(labels.names), "label_hash": labels.hash, "seed": seed}
    for name in ("dataset_manifest", *SPLITS):
        part = rows if name == "dataset_manifest" else rows[rows["split"] == name]
        write_arrow(folder / f"{name}.parquet", pa.Table.from_pandas(part, preserve_index=False), metadata)


def experiment_manifest(config: Config) -> Manifest:
    """The manifest of an experiment."""
    return read_manifest(config.dataset_dir, config.paths.dst_dataset)


def learnt_manifest(config: Config) -> Manifest:
    """The manifest as the models of an experiment see it: where labels.mode is binary, "Dominant" and "Other" stand in
    the place of the species, so that all that joins by name joins by these."""
    manifest = experiment_manifest(config)
    if config.labels.mode != "binary":
        return manifest
    names = np.array(manifest.labels.names)[manifest.rows["label_id"]]
    return replace(manifest, rows=manifest.rows.assign(species=names, group="all"))


def read_manifest(folder: Path, root: Path) -> Manifest:
    """Read the manifest in `folder` of the photos below `root`; its absence says which command makes it."""
    path = folder / "dataset_manifest.parquet"
    if not path.is_file():
        raise DataError(f"no manifest at {path}; run dataset_orchestrator.py with the same --config first")
    with read_arrow(path, "is not a manifest of this project; run dataset_orchestrator.py again") as (file, metadata):
        return Manifest(file.read().to_pandas(), root, LabelSpace(tuple(metadata["labels"])), metadata["seed"])
