"""A folder of photos with a table of them: <root>/photos.csv or photos.parquet, as a download of Open Data leaves it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from pipeline.dataset.formats.base import Listing, Photo, Want, day, existing, list_photos, safe_path
from pipeline.errors import DataError
from pipeline.files import nfc

FORM = "photos.csv or photos.parquet with the columns path, group, species"
NEEDED = ("path", "group", "species")


def read(root: Path, want: Want) -> Listing:
    """Columns path, group, species; split, observation, licence, holder and date (ISO 8601) where there are any."""
    rows = _rows(root)
    if absent := [name for name in NEEDED if name not in rows]:
        raise DataError(f"the table of photos in {root} has no columns {absent}; it has {list(rows)}")
    columns = [name for name in Photo._fields if name in rows]
    table = rows[columns].fillna("").astype(str)
    photos = [Photo(**dict(zip(columns, values, strict=True))) for values in table.itertuples(index=False, name=None)]
    photos = [
        photo._replace(
            path=safe_path(photo.path, root), group=nfc(photo.group), species=nfc(photo.species), date=day(photo.date)
        )
        for photo in photos
    ]
    if wrong := {photo.split for photo in photos} - {"", "train", "val", "test"}:
        raise DataError(f"the table of photos in {root} has the splits {sorted(wrong)}; known are train, val, test")
    return list_photos(want, photos, existing(root, {photo.path.rpartition("/")[0] for photo in photos}), {})


def _rows(root: Path) -> pd.DataFrame:
    if (root / "photos.parquet").is_file():
        return pd.read_parquet(root / "photos.parquet")
    if (root / "photos.csv").is_file():
        return pd.read_csv(root / "photos.csv", dtype=str, keep_default_na=False)
    raise DataError(f"no photos.csv or photos.parquet in {root}; set paths.src_dataset to the folder that holds it")
