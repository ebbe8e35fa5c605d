"""iNaturalist 2018, 2019 and 2021 (and 2017's JSON): <root>/train*.json, val*.json beside the photos or their tar.

Each JSON holds images, annotations and categories in COCO's form; a list of images alone is enough where file names carry
the taxonomy, as those of 2021 do. Categories without names (2018, 2019) are named by categories.json, which the makers
published later. A path's first folder may be an archive instead: train_mini/... lies in train_mini.tar.gz.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.dataset.formats.base import Listing, Photo, Want, day, existing, list_photos, safe_path
from pipeline.dataset.formats.taxonomy import ENGLISH, iconic_group
from pipeline.errors import DataError
from pipeline.files import nfc

FORM = "train*.json, val*.json and the photos that they name"
ARCHIVES = (".tar.gz", ".tgz", ".tar")
OBSERVED = ("rights_holder", "date", "latitude", "longitude")


class Category(NamedTuple):
    id: int
    kingdom: str
    group: str
    species: str


def read(root: Path, want: Want) -> Listing:
    """Photos that the JSON files name, of the categories wanted, with the official split, licence, holder and date.

    Photos of one person, instant and place count as one observation.
    """
    photos: list[Photo] = []
    for path, split in _annotation_files(root):
        try:
            photos += _photos(path, root, split, want)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path} is no annotation file of iNaturalist: {error!r}") from error
    if not photos:
        raise DataError(
            f"no photos of dataset.kingdom {want.kingdom!r} and dataset.categories {want.categories} in {root}"
        )
    tops = {photo.path.partition("/")[0] for photo in photos}
    archives = {top: archive for top in sorted(tops) if (archive := _archive(root, top))}
    folders = {photo.path.rpartition("/")[0] for photo in photos}
    there = existing(root, (folder for folder in folders if folder.partition("/")[0] not in archives))
    return list_photos(want, photos, there, archives)


def _annotation_files(root: Path) -> list[tuple[Path, str]]:
    """The JSON files of the official parts, each with its part."""
    found = [(path, split) for split in ("train", "val") for path in sorted(root.glob(f"{split}*.json"))]
    found = [(path, split) for path, split in found if not path.stem.endswith(("_locations", "_bboxes"))]
    if not found:
        raise DataError(f"no train*.json or val*.json in {root}; set paths.src_dataset to the folder that holds them")
    return found


def load(path: Path) -> dict[str, Any]:
    """A JSON file of this format."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}); fetch it again") from error
    if not isinstance(data, dict) or not isinstance(data.get("images"), list):
        raise DataError(f"{path} holds no list of images; it must be an annotation file of iNaturalist")
    return data


def _photos(path: Path, root: Path, split: str, want: Want) -> Iterator[Photo]:
    data = load(path)
    licences = {row["id"]: row.get("name", "") for row in data.get("licenses", [])}
    category_of = {row["image_id"]: row["category_id"] for row in data.get("annotations", [])}
    known = {row["id"]: _category(row) for row in _categories(data, root)}
    for image in data["images"]:
        name = safe_path(image["file_name"], path)
        category = known.get(category_of.get(image.get("id"), -1)) or _from_folder(name)
        if category is None:
            raise DataError(f"{path} says neither by annotation nor by folder what {name} shows")
        if _wanted(category, want):
            licence = str(licences.get(image.get("license"), ""))
            holder = str(image.get("rights_holder") or "")
            who_when = _observation(image), licence, holder, day(image.get("date"))
            yield Photo(name, category.group, category.species, split, *who_when)


def _categories(data: dict[str, Any], root: Path) -> list[dict[str, Any]]:
    later = root / "categories.json"
    rows = json.loads(later.read_text(encoding="utf-8")) if later.is_file() else data.get("categories", [])
    if rows and all(str(row["name"]).isdigit() for row in rows):
        raise DataError(
            f"the species in {root} have numbers for names; put the published categories.json beside the JSON"
        )
    return list(rows)


def _category(row: dict[str, Any]) -> Category:
    top = str(row.get("supercategory", ""))
    group = iconic_group(*(str(row.get(key, "")) for key in ("kingdom", "phylum", "class"))) or ENGLISH.get(top, top)
    return Category(int(row["id"]), str(row.get("kingdom", "")), group, nfc(str(row["name"])))


def _from_folder(name: str) -> Category | None:
    """The category of a folder such as 00007_Animalia_Annelida_..._Polynoidae_Harmothoe_imbricata."""
    ranks = name.split("/")[-2].split("_") if name.count("/") else []
    if len(ranks) < 8 or not ranks[0].isdigit():
        return None
    number, kingdom, phylum, class_ = ranks[:4]
    return Category(int(number), kingdom, iconic_group(kingdom, phylum, class_), nfc(" ".join(ranks[6:])))


def _wanted(category: Category, want: Want) -> bool:
    first, last = want.categories or (category.id, category.id)
    return first <= category.id <= last and want.kingdom.casefold() in ("", category.kingdom.casefold())


def _observation(image: dict[str, Any]) -> str:
    values = [image.get(key) for key in OBSERVED]
    return "" if None in values or "" in values else "|".join(map(str, values))


def _archive(root: Path, top: str) -> Path | None:
    if (root / top).exists():
        return None
    return next((path for ending in ARCHIVES if (path := root / f"{top}{ending}").is_file()), None)
