"""Decode every photo once, as the device will; an unreadable one becomes a row with a reason and never stops the run."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.console import log, progress
from pipeline.dataset.duplicates import thumbnail
from pipeline.dataset.formats.base import Photo
from pipeline.dataset.parallel import mapped
from pipeline.edge.errors import UnreadableImage
from pipeline.edge.recipe import decode
from pipeline.errors import DataError

KNOWN = ["image_path", "group", "species", "official", "observation", "licence", "holder", "date"]
MOST_UNREADABLE = 0.01  # share of the photos
SEEN = ["sha256", "width", "height", "thumbnail", "ok", "reason"]


def verify(root: Path, photos: Sequence[Photo], workers: int = 0) -> pd.DataFrame:
    """One row per photo, in the order given: KNOWN, what its format says of it; sha256, width, height (px, upright),
    thumbnail (256 grey bytes), ok, reason. The result does not depend on the number of workers (0: every core)."""
    paths = [str(root / photo.path) for photo in photos]
    rows = list(progress(mapped(look_at, paths, workers), len(paths), "verify"))
    return _known(photos).assign(**_columns(SEEN, rows))


def trust(photos: Sequence[Photo]) -> pd.DataFrame:
    """The same table without opening the photos: all are ok, and nothing else is known."""
    return _known(photos).assign(sha256="", width=0, height=0, thumbnail=b"", ok=True, reason="")


def _known(photos: Sequence[Photo]) -> pd.DataFrame:
    return pd.DataFrame(_columns(KNOWN, photos))


def _columns(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> dict[str, Any]:
    return dict(zip(names, zip(*rows, strict=True) if rows else [()] * len(names), strict=True))


def look_at(path: str) -> tuple[Any, ...]:
    """The columns SEEN of one photo."""
    digest = ""
    try:
        with open(path, "rb") as file:
            data = file.read()
        digest = hashlib.sha256(data).hexdigest()
        image = decode(data)
    except OSError as error:
        return digest, 0, 0, b"", False, f"cannot be read: {error.strerror}"  # not str(error), which holds the path
    except UnreadableImage as error:
        return digest, 0, 0, b"", False, str(error)
    return digest, *image.size, thumbnail(image), True, ""


def readable(root: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows (image_path) whose photos are still readable; the others are logged, and too many are a DataError."""
    reasons = {}
    for path in rows["image_path"]:
        try:
            decode(root / path)
        except UnreadableImage as error:
            reasons[path] = f"{path}: {error}"
    check_unreadable(reasons.values(), len(rows))
    for reason in reasons.values():
        log.warning("  left out: %s", reason)
    return rows[~rows["image_path"].isin(list(reasons))]


def check_unreadable(unreadable: Collection[str], photos: int, whole: bool = False) -> None:
    """A few photos may break after the data set was made; more than one percent, or a whole batch, are a DataError."""
    if whole or len(unreadable) > MOST_UNREADABLE * photos:
        raise DataError(
            f"{len(unreadable)} of {photos} photos cannot be read, e.g. {min(unreadable)}; run dataset_orchestrator.py again"
        )
