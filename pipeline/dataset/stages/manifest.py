"""Stage manifest: join rows and labels into the manifest that all later steps read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from pipeline.config import Config
from pipeline.dataset.labelling import DOMINANT
from pipeline.dataset.manifest import write_manifest
from pipeline.dataset.splitting import SPLITS
from pipeline.dataset.stages.label import LABEL_FILES
from pipeline.dataset.stages.split import ROWS
from pipeline.dataset.stages.stage import Stage
from pipeline.files import read_json, sha256
from pipeline.labels import OTHER, LabelSpace

MANIFEST_FILES = [f"{name}.parquet" for name in ("dataset_manifest", *SPLITS)]


def _inputs(config: Config) -> dict[str, Any]:
    return {
        "rows": sha256(config.dataset_dir / ROWS),
        "labels": [sha256(config.dataset_dir / LABEL_FILES[i]) for i in (0, 3)],
        "seed": config.seed,
    }


def _run(config: Config) -> str:
    rows = pd.read_parquet(config.dataset_dir / ROWS)
    labels = LabelSpace(tuple(read_json(config.dataset_dir / LABEL_FILES[0], "label map").values()))
    dominant = read_json(config.dataset_dir / LABEL_FILES[3], "dominant species")
    rows = _labelled(rows, labels, {name for names in dominant.values() for name in names})
    write_manifest(config.dataset_dir, rows, labels, config.seed)
    path = config.dataset_dir / MANIFEST_FILES[0]
    return f"{len(rows)} rows, {len(labels)} labels ({labels.hash}) in {path}"


def _labelled(rows: pd.DataFrame, labels: LabelSpace, dominant: set[str]) -> pd.DataFrame:
    """The rows with label_id; where there is no "Other", rows without a label get no split, and a reason."""
    species = rows["species"]
    if labels.names == (DOMINANT, OTHER):
        return rows.assign(label_id=(~species.isin(dominant)).astype("int64"))
    if labels.has_other:
        return rows.assign(label_id=labels.ids(species.tolist()))
    known = species.isin(labels.names)
    ids = np.full(len(rows), -1, dtype=np.int64)
    ids[known & rows["ok"]] = labels.ids(species[known & rows["ok"]].tolist())
    unnamed = (rows["split"] != "") & ~known
    reason = rows["reason"].mask(unnamed, "its species is dominant, and labels.mode is just_other")
    return rows.assign(label_id=ids, split=rows["split"].mask(unnamed, ""), reason=reason)


STAGE = Stage("manifest", _inputs, lambda config: MANIFEST_FILES, _run)
