"""iNaturalist 2017: the folders, and what the JSON files know of each photo."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.dataset.formats.base import Photo, Want
from pipeline.dataset.formats.inat2017 import read
from pipeline.errors import DataError

from .files import touch, write

A, B, C = (
    f"train_val_images/{path}" for path in ("Aves/Pica pica/a.jpg", "Aves/Pica pica/b.jpg", "Insecta/Apis/c.jpg")
)


def image(path: str, **known: object) -> dict[str, object]:
    return {"file_name": path, **known}


def test_folders_alone_are_enough(tmp_path: Path) -> None:
    touch(tmp_path, A, B, C)
    found = read(tmp_path, Want(("Aves",)))
    assert found.species == {"Aves": ["Pica pica"]}
    assert found.photos == [Photo(A, "Aves", "Pica pica"), Photo(B, "Aves", "Pica pica")]


def test_json_gives_split_licence_and_holder(tmp_path: Path) -> None:
    touch(tmp_path, A, B, C)
    licences = [{"id": 1, "name": "CC BY-NC", "url": "https://creativecommons.org/licenses/by-nc/4.0/"}]
    write(
        tmp_path,
        train2017_json={"images": [image(A, license=1, rights_holder="Ann", date="2016-07-14")], "licenses": licences},
        val2017_json={"images": [image(B, license=7)]},
    )
    found = read(tmp_path, Want(("Aves", "Insecta")))
    assert [(photo.split, photo.licence, photo.holder, photo.date) for photo in found.photos] == [
        ("train", "CC BY-NC", "Ann", "2016-07-14"),
        ("val", "", "", ""),
        ("", "", "", ""),
    ]


def test_wrong_folder_names_the_one_expected(tmp_path: Path) -> None:
    touch(tmp_path, "Aves/Pica pica/a.jpg")
    with pytest.raises(DataError, match="no photo folder at .*train_val_images"):
        read(tmp_path, Want(("Aves",)))
