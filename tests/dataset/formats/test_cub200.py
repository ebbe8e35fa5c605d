"""CUB-200-2011: names, the official parts, what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.dataset.formats.base import Photo, Want
from pipeline.dataset.formats.cub200 import read
from pipeline.errors import DataError

from .files import touch, write

AVES = Want(("Aves",))


@pytest.fixture
def cub(tmp_path: Path) -> Path:
    folder = "001.Black_footed_Albatross"
    touch(tmp_path, f"images/{folder}/a.jpg", f"images/{folder}/b.jpg", "images/002.Crested_Auklet/c.jpg")
    write(
        tmp_path,
        images_txt=f"1 {folder}/a.jpg\n2 {folder}/b.jpg\n3 002.Crested_Auklet/c.jpg\n",
        image_class_labels_txt="1 1\n2 1\n3 2\n",
        classes_txt="1 001.Black_footed_Albatross\n2 002.Crested_Auklet\n",
        train_test_split_txt="1 0\n2 1\n3 1\n",
    )
    return tmp_path


def test_english_names_and_official_parts(cub: Path) -> None:
    found = read(cub, AVES)
    assert found.species == {"Aves": ["Black footed Albatross", "Crested Auklet"]}
    assert found.photos[0] == Photo("images/001.Black_footed_Albatross/a.jpg", "Aves", "Black footed Albatross", "test")
    assert [photo.split for photo in found.photos] == ["test", "train", "train"]


def test_photo_that_is_not_there_is_told(cub: Path) -> None:
    (cub / "images/002.Crested_Auklet/c.jpg").unlink()
    assert read(cub, AVES).missing == ["images/002.Crested_Auklet/c.jpg"]


@pytest.mark.parametrize("name", ["images", "image_class_labels", "classes", "train_test_split"])
def test_missing_table_is_named(cub: Path, name: str) -> None:
    (cub / f"{name}.txt").unlink()
    with pytest.raises(
        DataError, match=rf"no {name}\.txt in .*; set paths\.src_dataset to the folder with images\.txt"
    ):
        read(cub, AVES)


def test_image_without_a_line_in_another_table_is_named(cub: Path) -> None:
    write(cub, train_test_split_txt="1 0\n2 1\n")
    with pytest.raises(DataError, match=r"image 3 of images\.txt has no line '3' in the other tables"):
        read(cub, AVES)


def test_path_that_leads_out_is_refused(cub: Path) -> None:
    write(cub, images_txt="1 ../../secret.jpg\n")
    with pytest.raises(DataError, match=r"names the file '\.\./\.\./secret\.jpg', which is no path below"):
        read(cub, AVES)


def test_other_groups_are_told_that_these_are_birds(cub: Path) -> None:
    with pytest.raises(DataError, match=r"no photos of the groups \['Insecta'\]; groups there: \['Aves'\]"):
        read(cub, Want(("Aves", "Insecta")))
