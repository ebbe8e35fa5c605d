"""CUB-200-2011: <root>/images.txt, image_class_labels.txt, classes.txt, train_test_split.txt and images/.

Wah et al., "The Caltech-UCSD Birds-200-2011 Dataset", CNS-TR-2011-001.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from pipeline.dataset.formats.base import Listing, Photo, Want, existing, list_photos, safe_path
from pipeline.errors import DataError
from pipeline.files import nfc

FORM = "images.txt, image_class_labels.txt, classes.txt, train_test_split.txt and images/"
GROUP = "Aves"


def read(root: Path, want: Want) -> Listing:
    """200 birds by their English names, group Aves, with the official train and test parts; bounding boxes are not read."""
    return read_tables(root, want, lambda name: re.sub(r"^\d+\.", "", name).replace("_", " "))


def read_tables(root: Path, want: Want, species: Callable[[str], str]) -> Listing:
    """Photos of the four tables common to CUB and NABirds. species: from a class's name to the name shown."""
    paths, labels, names, train = (
        _table(root / f"{name}.txt") for name in ("images", "image_class_labels", "classes", "train_test_split")
    )
    holders = _table(root / "photographers.txt") if (root / "photographers.txt").is_file() else {}
    photos = []
    for key, path in paths.items():
        try:
            name, split = names[labels[key]], "train" if train[key] == "1" else "test"
        except KeyError as error:
            raise DataError(f"{root}: image {key} of images.txt has no line {error} in the other tables") from error
        path = "images/" + safe_path(path, root / "images.txt")
        photos.append(Photo(path, GROUP, nfc(species(name)), split, holder=holders.get(key, "")))
    return list_photos(want, photos, existing(root, {photo.path.rpartition("/")[0] for photo in photos}), {})


def _table(path: Path) -> dict[str, str]:
    """Lines "<id> <rest>"; a missing file is an error that names the expected folder."""
    if not path.is_file():
        raise DataError(f"no {path.name} in {path.parent}; set paths.src_dataset to the folder with {FORM}")
    rows = (line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    return {row[0]: row[1].strip() if len(row) > 1 else "" for row in rows}
