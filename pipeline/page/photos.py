"""Photos of the experiment for the page: test photos to choose from, train photos as examples of a species."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.dataset.manifest import Manifest
from pipeline.edge.errors import UnreadableImage
from pipeline.edge.recipe import Recipe, decode, preprocess

TILE = Recipe(size=160, crop=1.0)


@dataclass(frozen=True)
class Shown:
    """A photo of the manifest: its file, its species, and the rights holder where known."""

    path: Path
    species: str
    rights: str


def draw(manifest: Manifest, split: str, species: str | None, count: int, seed: int) -> list[Shown]:
    """Up to `count` existing photos of a split, of one species or of all (None), drawn by the seed."""
    rows = manifest.part(split)
    rows = rows if species is None else rows[rows["species"] == species]
    there = (_shown(manifest.root, row) for row in rows.sample(frac=1, random_state=seed).to_dict("records"))
    found: list[Shown] = []
    for one in there:
        if len(found) == count:
            break
        if one.path.is_file():
            found.append(one)
    return found


def tile(path: Path) -> NDArray[np.uint8] | None:
    """A photo's central square at 160 px, or None where it is no longer readable."""
    try:
        return preprocess(decode(path, TILE.decode_side), TILE)
    except UnreadableImage:
        return None


def species_of(rows: pd.DataFrame) -> list[str]:
    """The species of a manifest's rows, by name."""
    return sorted(set(rows["species"]))


def _shown(root: Path, row: dict[Any, Any]) -> Shown:
    rights = ", ".join(str(row[key]) for key in ("holder", "licence") if row.get(key))
    return Shown(root / row["image_path"], row["species"], rights)
