"""Select the photos to explain, and name their pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pipeline.config import Config
from pipeline.dataset.manifest import Manifest
from pipeline.edge.sources import find
from pipeline.errors import DataError
from pipeline.evaluation.predict import load_predictions, predictions_file, stage_names
from pipeline.evaluation.tables import judge
from pipeline.files import safe_name
from pipeline.labels import long_tail


def photos_to_explain(config: Config, manifest: Manifest, images: Sequence[str]) -> dict[str, Path]:
    """Photos by the name of their picture: files and folders as given, telling_photos() if there is none."""
    photos = list(find(images)) if images else [manifest.root / path for path in telling_photos(config, manifest)]
    if not photos:
        raise DataError(f"no photos to explain in {', '.join(images) or 'the test part'}")
    return named(photos, manifest.root)


def named(photos: Sequence[Path], root: Path) -> dict[str, Path]:
    """Photos by a file name without ending: from the path below root, or from the last folder and the photo's own name."""
    found: dict[str, Path] = {}
    for path in photos:
        short = path.relative_to(root) if path.is_relative_to(root) else Path(*path.parts[-2:])
        name = first = safe_name("_".join(short.with_suffix("").parts))
        k = 1
        while name in found:
            name = f"{first}_{(k := k + 1)}"
        found[name] = path
    return found


def telling_photos(config: Config, manifest: Manifest) -> list[str]:
    """Informative test photos: for head, middle and tail species one that the last stage got right and one it got wrong.

    Read from the stored predictions; a part that has none of a kind goes without.
    """
    judged = judge(load_predictions(predictions_file(config, stage_names(config)[-1], "fp32")).part("test"))
    train = manifest.part("train")["species"].value_counts()
    rows = judged.rows[["image_path", "species"]].assign(right=judged.right)
    drawn = []
    for species in long_tail({str(name): int(n) for name, n in train.items()}).values():
        for right in (True, False):
            part: pd.DataFrame = rows[rows["species"].isin(species) & (rows["right"] == right)]
            drawn += part.sample(min(1, len(part)), random_state=config.seed)["image_path"].tolist()
    return drawn
