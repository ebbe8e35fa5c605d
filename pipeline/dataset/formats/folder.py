"""The folder format: <root>/<group>/<species>/<photo>."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pipeline.dataset.formats.base import Listing, Photo, Want, photos_in, subfolders
from pipeline.errors import DataError
from pipeline.files import nfc

FORM = "<group>/<species>/<photo>.jpg"


def read(root: Path, want: Want) -> Listing:
    """Photos sorted by group, species and name; groups stand in `species` in the order asked for."""
    species = folders(root, want.groups)
    photos: list[Photo] = []
    others: list[str] = []
    for group in sorted(species):
        for folder in subfolders(root / group):
            found, rest = photos_in(folder.path, f"{group}/{folder.name}", group, nfc(folder.name))
            photos += found
            others += rest
    return Listing(species, photos, others)


def folders(root: Path, groups: Iterable[str]) -> dict[str, list[str]]:
    """Species folders of each group, sorted: {group: [species]}. A missing root or group is an error."""
    if not root.is_dir():
        raise DataError(f"no photo folder at {root}; set paths.src_dataset to a folder of <group>/<species>/<photo>")
    result = {}
    for group in groups:
        folder = root / group
        if not folder.is_dir():
            there = ", ".join(sorted(d.name for d in root.iterdir() if d.is_dir())) or "none"
            raise DataError(
                f"no folder {folder} for the group {group}; groups there: {there} (global.included_classes)"
            )
        result[group] = sorted({nfc(entry.name) for entry in subfolders(folder)})
    return result
