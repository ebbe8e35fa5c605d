"""Photos in the users' folder form: <root>/<group>/<species>/<photo>."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from pipeline.edge.sources import EXTENSIONS
from pipeline.errors import DataError


class Photo(NamedTuple):
    """One photo: its path relative to the data set's root, with forward slashes, spelt as on disk; names in NFC."""

    path: str
    group: str
    species: str


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
        result[group] = sorted({_nfc(entry.name) for entry in _species_folders(folder)})
    return result


def scan(root: Path, species: Mapping[str, Collection[str]]) -> tuple[list[Photo], list[str]]:
    """Photos of the given species, sorted, and the paths of what is no photo: other files, folders, dead links."""
    photos, others = [], []
    for group in sorted(species):
        wanted = {_nfc(name) for name in species[group]}
        for folder in _species_folders(root / group):
            name = _nfc(folder.name)
            if name not in wanted:
                continue
            for entry in sorted(os.scandir(folder), key=lambda e: e.name):
                path = f"{group}/{folder.name}/{entry.name}"
                if entry.name.startswith("."):
                    continue
                if entry.is_file() and os.path.splitext(entry.name)[1].lower() in EXTENSIONS:
                    photos.append(Photo(path, group, name))
                else:
                    others.append(path)
    return photos, others


def _species_folders(group: Path) -> list[os.DirEntry[str]]:
    if not group.is_dir():
        return []
    found = [entry for entry in os.scandir(group) if entry.is_dir() and not entry.name.startswith(".")]
    return sorted(found, key=lambda entry: (_nfc(entry.name), entry.name))


def _nfc(name: str) -> str:
    return unicodedata.normalize("NFC", name)  # accents are one character or two, as the file system pleases
