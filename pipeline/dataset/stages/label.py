"""Stage label: the dominant species, "Other", and the species in rank order."""

from __future__ import annotations

from typing import Any

import pandas as pd

from pipeline.config import Config
from pipeline.dataset.composition import Composition, compose, total
from pipeline.dataset.dominance import dominant_of_groups, rank_species
from pipeline.dataset.formats.folder import Photo
from pipeline.dataset.stages.split import ROWS
from pipeline.dataset.stages.stage import Stage
from pipeline.errors import DataError
from pipeline.files import sha256, write_json
from pipeline.labels import OTHER, LabelSpace

LABEL_FILES = ["dataset_species_labels.json", "species_composition.json", "class_counts_sorted.json"]


def _inputs(config: Config) -> dict[str, Any]:
    threshold = config.train_val_split.dominant_threshold
    return {"photos": sha256(config.dataset_dir / ROWS), "threshold": threshold}


def _run(config: Config) -> str:
    threshold = config.train_val_split.dominant_threshold
    rows = pd.read_parquet(config.dataset_dir / ROWS)
    good = rows.loc[rows["ok"], ["image_path", "group", "species"]]
    composition = compose(Photo(*row) for row in good.itertuples(index=False))
    names = [name for counts in composition.values() for name in counts]
    if twice := {name for name in names if names.count(name) > 1}:
        raise DataError(
            f"{sorted(twice)} stand in more than one group; labels are joined by name, so keep one folder of each"
        )
    if OTHER in names:
        raise DataError(
            f"a species folder is called {OTHER!r}, the label of all that is not dominant; rename the folder"
        )
    labels = _labels(composition, threshold)
    counts = {name: n for members in composition.values() for name, n in members.items()}
    shown = {name: counts.get(name, 0) for name in labels.names}
    if labels.has_other:
        shown[OTHER] = total(composition) - sum(shown.values())
    ranked = rank_species(composition, threshold)[0]
    ranks = [{"class_name": name, "sample_count": counts[name], "rank": i} for i, name in enumerate(ranked, 1)]
    data = [{str(i): name for i, name in enumerate(labels.names)}, shown, {"class_counts_sorted": ranks}]
    for file, content in zip(LABEL_FILES, data, strict=True):
        write_json(config.dataset_dir / file, content)
    if not labels.has_other:
        return f"every one of the {len(labels)} species is its own label"
    share = 1 - shown[OTHER] / total(composition)
    rest = len(names) - len(labels) + 1
    return f"{len(labels) - 1} dominant species hold {share:.1%} of the photos, the other {rest} are {OTHER!r}"


def _labels(composition: Composition, threshold: float) -> LabelSpace:
    """Rule B7: dominant species by group, then by name, then "Other"; a threshold of 1 makes every species a label."""
    if threshold == 1:
        return LabelSpace(tuple(name for counts in composition.values() for name in counts))
    dominant = dominant_of_groups(composition, threshold)
    return LabelSpace((*(name for group in sorted(dominant) for name in sorted(dominant[group])), OTHER))


STAGE = Stage("label", _inputs, lambda config: LABEL_FILES, _run)
