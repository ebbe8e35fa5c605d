"""Photos in folders of classes without groups: <root>/<class>/<photo>, or <root>/<train|val|test>/<class>/<photo>."""

from __future__ import annotations

from pathlib import Path

from pipeline.dataset.formats.base import Listing, Photo, Want, photos_in, subfolders
from pipeline.errors import DataError
from pipeline.files import nfc

FORM = "<class>/<photo>.jpg"
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def read(root: Path, want: Want) -> Listing:
    """All classes are species of the one group asked for; folders called train, val, test are the official split."""
    if len(want.groups) != 1:
        raise DataError(
            f"folders of classes have one group, not {list(want.groups)}; give it one name in global.included_classes"
        )
    (group,) = want.groups
    tops = [entry.name for entry in subfolders(root)]
    if not tops:
        raise DataError(f"no folders of classes in {root}; set paths.src_dataset to a folder of <class>/<photo>")
    parts = [(f"{top}/", SPLITS[top]) for top in tops] if set(tops) <= SPLITS.keys() else [("", "")]
    species: set[str] = set()
    photos: list[Photo] = []
    others: list[str] = []
    for prefix, split in parts:
        for folder in subfolders(root / prefix):
            species.add(nfc(folder.name))
            found, rest = photos_in(folder.path, f"{prefix}{folder.name}", group, nfc(folder.name), split)
            photos += found
            others += rest
    return Listing({group: sorted(species)}, photos, others)
