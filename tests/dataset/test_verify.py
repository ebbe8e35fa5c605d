"""Every photo is looked at once; a bad one is a row with a reason."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from pipeline.dataset.duplicates import thumbnail
from pipeline.dataset.formats.base import Photo, Want
from pipeline.dataset.formats.folder import read
from pipeline.dataset.verify import verify


@pytest.fixture
def spoiled(photos: Path) -> tuple[Path, list[Photo]]:
    """The tiny folder with three bad photos."""
    folder = photos / "Insecta" / "Apis mellifera"
    whole = (folder / "000.jpg").read_bytes()
    (folder / "001.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "002.jpg").write_text("this is no photo")
    (folder / "003.jpg").write_bytes(b"")
    return photos, read(photos, Want(("Aves", "Insecta"))).photos


def test_rows_say_what_each_photo_is(photos: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = photos / "Aves" / "Pica pica" / "000.jpg"
    Image.open(path).save(path, exif=exif)
    listed = [photo for photo in read(photos, Want(("Aves",))).photos if photo.species == "Pica pica"]
    table = verify(photos, listed, workers=1)
    assert table["image_path"].tolist() == [f"Aves/Pica pica/00{i}.jpg" for i in range(4)]
    assert table["ok"].all()
    assert (table["reason"] == "").all()
    assert table["sha256"][0] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert table[["width", "height"]].to_numpy().tolist() == [[48, 64], [64, 48], [64, 48], [64, 48]]
    assert table["thumbnail"][1] == thumbnail(Image.open(photos / table["image_path"][1]))


def test_bad_photos_are_rows_with_reasons(spoiled: tuple[Path, list[Photo]]) -> None:
    table = verify(*spoiled, workers=1).set_index("image_path")
    assert len(table) == 34
    bad = table[~table["ok"]]
    assert [path[-7:] for path in bad.index] == ["001.jpg", "002.jpg", "003.jpg"]
    assert "truncated" in bad["reason"].iloc[0]
    assert bad["reason"].iloc[1] == bad["reason"].iloc[2] == "is no image in a format that Pillow knows"
    assert (bad["sha256"].str.len() == 64).all()
    assert (bad["width"] == 0).all()


def test_vanished_photo_is_a_row_whose_reason_does_not_depend_on_the_folder(spoiled: tuple[Path, list[Photo]]) -> None:
    root, listed = spoiled
    (root / listed[0].path).unlink()
    row = verify(root, listed, workers=1).iloc[0]
    assert (row["ok"], row["sha256"], row["reason"]) == (False, "", "cannot be read: No such file or directory")


def test_one_and_two_workers_make_the_same_table(spoiled: tuple[Path, list[Photo]], tmp_path: Path) -> None:
    root, listed = spoiled
    many = []
    for i in range(7):  # above the 200 photos from which processes are started
        for photo in listed:
            path = f"{i}/{photo.path}"
            (tmp_path / "many" / path).parent.mkdir(parents=True, exist_ok=True)
            os.link(root / photo.path, tmp_path / "many" / path)
            many.append(Photo(path, photo.group, photo.species))
    pd.testing.assert_frame_equal(
        verify(tmp_path / "many", many, workers=1), verify(tmp_path / "many", many, workers=2)
    )


def test_no_photos_make_an_empty_table(tmp_path: Path) -> None:
    assert len(verify(tmp_path, [], workers=1)) == 0
