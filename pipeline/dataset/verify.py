"""Look at every photo once, as the device will: a bad one becomes a row with a reason and never stops the run."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.console import progress
from pipeline.dataset.duplicates import thumbnail
from pipeline.dataset.formats.folder import Photo
from pipeline.edge.errors import UnreadableImage
from pipeline.edge.recipe import decode


def verify(root: Path, photos: Sequence[Photo], workers: int = 0) -> pd.DataFrame:
    """One row per photo, in the order given: image_path, group, species, sha256, width, height (px, upright), thumbnail
    (256 grey bytes), ok, reason. The result does not depend on the number of workers (0: every core)."""
    workers = workers or os.cpu_count() or 1
    paths = [str(root / photo.path) for photo in photos]
    if workers == 1 or len(paths) < 200:
        rows = list(progress(map(_look, paths), len(paths), "verify"))
    else:
        with ProcessPoolExecutor(workers) as pool:
            rows = list(progress(pool.map(_look, paths, chunksize=64), len(paths), "verify"))
    table = pd.DataFrame(rows, columns=["sha256", "width", "height", "thumbnail", "ok", "reason"])
    where = pd.DataFrame(photos, columns=["image_path", "group", "species"])
    return pd.concat([where, table], axis=1)


def _look(path: str) -> dict[str, Any]:
    row = {"sha256": "", "width": 0, "height": 0, "thumbnail": b"", "ok": False, "reason": ""}
    try:
        data = Path(path).read_bytes()
        row["sha256"] = hashlib.sha256(data).hexdigest()
        image = decode(data)
    except OSError as error:
        return {**row, "reason": f"cannot be read: {error.strerror}"}  # not str(error), which holds the path
    except UnreadableImage as error:
        return {**row, "reason": str(error)}
    width, height = image.size
    return {**row, "width": width, "height": height, "thumbnail": thumbnail(image).tobytes(), "ok": True}
