"""NABirds: names with brackets and spaces, photographers."""

from __future__ import annotations

from pathlib import Path

from pipeline.dataset.formats.base import Photo, Want
from pipeline.dataset.formats.nabirds import read

from .files import touch, write

ONE, TWO = "0000139e-21dc-4d0c-bfe1-4cae3c85c829", "0000d9fc-4e02-4c06-a0af-a55cfb16b12b"


def test_names_parts_and_photographers(tmp_path: Path) -> None:
    touch(tmp_path, f"images/0817/{ONE}.jpg", f"images/0860/{TWO}.jpg")
    write(
        tmp_path,
        images_txt=f"{ONE} 0817/{ONE}.jpg\n{TWO} 0860/{TWO}.jpg\n",
        image_class_labels_txt=f"{ONE} 817\n{TWO} 860\n",
        classes_txt="0 Birds\n817 Oak Titmouse\n860 Common Eider (Female/juvenile)\n",
        train_test_split_txt=f"{ONE} 0\n{TWO} 1\n",
        photographers_txt=f"{ONE} Ann Nightingale\n{TWO} \n",
    )
    found = read(tmp_path, Want(("Aves",)))
    assert found.species == {"Aves": ["Common Eider (Female/juvenile)", "Oak Titmouse"]}
    assert found.photos == [
        Photo(f"images/0817/{ONE}.jpg", "Aves", "Oak Titmouse", "test", holder="Ann Nightingale"),
        Photo(f"images/0860/{TWO}.jpg", "Aves", "Common Eider (Female/juvenile)", "train"),
    ]
