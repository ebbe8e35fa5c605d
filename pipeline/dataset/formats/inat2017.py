"""iNaturalist 2017: <root>/train_val_images/<group>/<species>/<photo>, with train2017.json and val2017.json if at hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pipeline.dataset.formats import folder
from pipeline.dataset.formats.base import Listing, Want, day
from pipeline.dataset.formats.inat_json import load
from pipeline.files import nfc

FORM = "train_val_images/<group>/<species>/<photo>.jpg"
PHOTOS = "train_val_images"


def read(root: Path, want: Want) -> Listing:
    """What lies in the folders; split, licence, holder and date of each photo from the JSON files, where they have them."""
    found = folder.read(root / PHOTOS, want)
    known: dict[str, tuple[str, str, str, str]] = {}
    for split in ("train", "val"):
        path = root / f"{split}2017.json"
        if path.is_file():
            data = load(path)
            licences = {row["id"]: str(row.get("name", "")) for row in data.get("licenses", [])}
            for image in data["images"]:
                licence = licences.get(image.get("license"), "")
                holder = str(image.get("rights_holder") or "")
                known[nfc(image["file_name"])] = (split, licence, holder, day(image.get("date")))
    photos = []
    for photo in found.photos:
        path_in_root = f"{PHOTOS}/{photo.path}"
        split, licence, holder, date = known.get(nfc(path_in_root), ("", "", "", ""))
        photos.append(photo._replace(path=path_in_root, split=split, licence=licence, holder=holder, date=date))
    return replace(found, photos=photos, others=[f"{PHOTOS}/{path}" for path in found.others])
