"""Common types of all formats: a photo with its metadata, and the listing of a collection."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pipeline.edge.sources import EXTENSIONS
from pipeline.errors import DataError
from pipeline.files import nfc


class Photo(NamedTuple):
    """One photo: its path relative to the data set's root, with forward slashes, spelt as on disk; names in NFC.

    What is not known is empty. split: the official one ("train", "val", "test"); observation: photos that share one
    show the same animal at the same moment; licence, holder: for the ledger of the data card; date: YYYY-MM-DD.
    """

    path: str
    group: str
    species: str
    split: str = ""
    observation: str = ""
    licence: str = ""
    holder: str = ""
    date: str = ""


@dataclass(frozen=True)
class Want:
    """Selection for a format. groups: in the users' order; kingdom: "" for all; categories: first and last id."""

    groups: tuple[str, ...]
    kingdom: str = ""
    categories: tuple[int, int] | None = None


@dataclass(frozen=True)
class Listing:
    """What a source holds. species: {group: [species]}, also those without photos; others: files that are no photos;
    missing: photos that are listed but not there; archives: {first folder of a path: the archive it lies in}."""

    species: dict[str, list[str]]
    photos: list[Photo]
    others: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    archives: dict[str, Path] = field(default_factory=dict)


def day(when: object) -> str:
    """YYYY-MM-DD of a date or an instant in ISO 8601; empty where it is neither."""
    try:
        return datetime.date.fromisoformat(str(when)[:10]).isoformat()
    except ValueError:
        return ""


def is_photo(name: str) -> bool:
    """Whether the extension, in any case, is that of a photo."""
    return name.lower().endswith(EXTENSIONS)


def subfolders(folder: Path) -> list[os.DirEntry[str]]:
    """Folders in a folder, sorted by name, without hidden ones; none where there is no such folder."""
    if not folder.is_dir():
        return []
    found = [entry for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith(".")]
    return sorted(found, key=lambda entry: (nfc(entry.name), entry.name))


def photos_in(
    folder: str | Path, prefix: str, group: str, species: str, split: str = ""
) -> tuple[list[Photo], list[str]]:
    """Photos of one species folder, sorted, and the paths of everything else: other files, folders, dead links."""
    names, others = [], []
    for entry in os.scandir(folder):
        name = entry.name
        if is_photo(name) and entry.is_file():
            names.append(name)
        else:
            others.append(name)
    photos = [Photo(f"{prefix}/{name}", group, species, split) for name in sorted(names) if name[0] != "."]
    return photos, [f"{prefix}/{name}" for name in sorted(others) if name[0] != "."]


def safe_path(name: object, source: Path) -> str:
    """A file name read from the file `source`; one that leads outside the root is an error."""
    parts = name.split("/") if isinstance(name, str) else [".."]
    if "\\" in str(name) or "\0" in str(name) or not all(part not in ("", ".", "..") for part in parts):
        raise DataError(f"{source} names the file {name!r}, which is no path below its folder; do not trust that file")
    return str(name)


def list_photos(want: Want, photos: Iterable[Photo], there: Iterable[str], archives: dict[str, Path]) -> Listing:
    """The listing of a format whose photos are named in files. there: the paths that exist outside the archives.

    A group that is asked for and has no photo is an error that names those there are.
    """
    photos = list(photos)
    known = {photo.group for photo in photos}
    if absent := [group for group in want.groups if group not in known]:
        raise DataError(f"no photos of the groups {absent}; groups there: {sorted(known)} (global.included_classes)")
    chosen = sorted(photo for photo in photos if photo.group in want.groups)
    exists = set(there)
    found, missing = [], []
    for photo in chosen:
        if photo.path in exists or photo.path.partition("/")[0] in archives:
            found.append(photo)
        else:
            missing.append(photo.path)
    species: dict[str, set[str]] = {group: set() for group in want.groups}
    for photo in chosen:
        species[photo.group].add(photo.species)
    return Listing({group: sorted(names) for group, names in species.items()}, found, [], missing, archives)


def existing(root: Path, folders: Iterable[str]) -> set[str]:
    """Paths, relative to root, of all files in these folders of it; a folder that is not there has none."""
    found: set[str] = set()
    for folder in set(folders):
        if (root / folder).is_dir():
            prefix = f"{folder}/" if folder else ""
            found.update(f"{prefix}{entry.name}" for entry in os.scandir(root / folder) if entry.is_file())
    return found
