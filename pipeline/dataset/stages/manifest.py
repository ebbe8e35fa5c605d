"""Stage manifest: rows and labels joined into what everything after reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from pipeline.config import Config
from pipeline.dataset.manifest import write_manifest
from pipeline.dataset.splitting import SPLITS
from pipeline.dataset.stages.label import LABEL_FILES
from pipeline.dataset.stages.split import ROWS
from pipeline.dataset.stages.stage import Stage
from pipeline.files import read_json, sha256
from pipeline.labels import LabelSpace

MANIFEST_FILES = [f"{name}.parquet" for name in ("dataset_manifest", *SPLITS)]


def _inputs(config: Config) -> dict[str, Any]:
    return {
        "rows": sha256(config.dataset_dir / ROWS),
        "labels": sha256(config.dataset_dir / LABEL_FILES[0]),
        "seed": config.seed,
    }


def _run(config: Config) -> str:
    rows = pd.read_parquet(config.dataset_dir / ROWS)
    labels = LabelSpace(tuple(read_json(config.dataset_dir / LABEL_FILES[0], "label map").values()))
    rows["label_id"] = labels.ids(rows["species"].tolist()) if labels.has_other else _exact(labels, rows)
    write_manifest(config.dataset_dir, rows, labels, config.seed)
    path = config.dataset_dir / MANIFEST_FILES[0]
    return f"{len(rows)} rows, {len(labels)} labels ({labels.hash}) in {path}"


def _exact(labels: LabelSpace, rows: pd.DataFrame) -> np.ndarray[Any, np.dtype[np.int64]]:
    ids = np.full(len(rows), -1, dtype=np.int64)  # a species all of whose photos are bad has no label
    ids[rows["ok"]] = labels.ids(rows.loc[rows["ok"], "species"].tolist())
    return ids


STAGE = Stage("manifest", _inputs, lambda config: MANIFEST_FILES, _run)
