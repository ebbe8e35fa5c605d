"""Stage label: the labels, the dominant species, and all species in rank order."""

from __future__ import annotations

from typing import Any

import pandas as pd

from pipeline.config import Config
from pipeline.dataset.composition import compose, total
from pipeline.dataset.labelling import Labelling, label, tell_unseen, weigh
from pipeline.dataset.stages.split import ROWS
from pipeline.dataset.stages.stage import Stage
from pipeline.files import sha256, write_json
from pipeline.labels import OTHER

LABEL_FILES = [
    "dataset_species_labels.json",
    "species_composition.json",
    "class_counts_sorted.json",
    "dominant_species.json",
]


def _inputs(config: Config) -> dict[str, Any]:
    weights = config.labels.weights
    return {
        "photos": sha256(config.dataset_dir / ROWS),
        "threshold": config.train_val_split.dominant_threshold,
        "how": config.labels.model_dump(mode="json"),
        "weights": sha256(weights) if weights and weights.is_file() else None,
    }


def _run(config: Config) -> str:
    rows = pd.read_parquet(config.dataset_dir / ROWS)
    used = rows[rows["split"] != ""]
    composition = compose(zip(used["group"].tolist(), used["species"].tolist(), strict=True))
    made = label(config.labels, composition, config.train_val_split.dominant_threshold)
    if config.labels.weights:
        seen = weigh(config.labels, composition).values()
        tell_unseen({name: n for counts in seen for name, n in counts.items()}, config.labels.weights)
    photos = {name: n for members in composition.values() for name, n in members.items()}
    ranks = [{"class_name": name, "sample_count": photos[name], "rank": i} for i, name in enumerate(made.ranking, 1)]
    data = [
        {str(i): name for i, name in enumerate(made.labels.names)},
        made.counts,
        {"class_counts_sorted": ranks},
        made.dominant,
    ]
    for file, content in zip(LABEL_FILES, data, strict=True):
        write_json(config.dataset_dir / file, content)
    return _summary(made, total(composition))


def _summary(made: Labelling, photos: int) -> str:
    n = sum(map(len, made.dominant.values()))
    if not made.labels.has_other and len(made.labels) == len(made.ranking):
        return f"every one of the {len(made.labels)} species is its own label"
    if not made.labels.has_other:
        return f"{len(made.labels)} species that are not dominant, each its own label; {n} dominant ones are left out"
    share = 1 - made.counts[OTHER] / photos
    return f"{n} dominant species hold {share:.1%} of the photos, the other {len(made.ranking) - n} are {OTHER!r}"


STAGE = Stage("label", _inputs, lambda config: LABEL_FILES, _run)
