"""Photos stored small: the right part, once, known again by their comment."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_photo
from PIL import Image

from pipeline.dataset.formats.base import Photo, Want
from pipeline.dataset.formats.folder import read
from pipeline.dataset.storing import encode, store, stored_path, unstored
from pipeline.errors import DataError
from pipeline.sections.dataset import Store

SMALL = Store(size=32)


@pytest.fixture
def listed(photos: Path) -> list[Photo]:
    return read(photos, Want(("Aves",))).photos


def test_each_photo_is_stored_once_with_its_time(photos: Path, tmp_path: Path, listed: list[Photo]) -> None:
    dst = tmp_path / "small"
    assert store(listed, photos, dst, SMALL) == {"stored": 10}
    for photo in listed:
        assert (dst / photo.path).stat().st_mtime_ns == (photos / photo.path).stat().st_mtime_ns
        with Image.open(dst / photo.path) as image:
            assert (image.size, image.format, image.mode) == ((32, 32), "JPEG", "RGB")
    assert store(listed, photos, dst, SMALL) == {"kept": 10}


def test_only_what_is_missing_or_changed_or_of_other_settings(
    photos: Path, tmp_path: Path, listed: list[Photo]
) -> None:
    dst = tmp_path / "small"
    store(listed, photos, dst, SMALL)
    (dst / listed[0].path).unlink()
    draw_photo(99).save(photos / listed[1].path)
    (dst / listed[2].path).write_bytes((photos / listed[2].path).read_bytes())
    times = (photos / listed[2].path).stat()
    os.utime(dst / listed[2].path, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a plain copy would be
    assert store(listed, photos, dst, SMALL) == {"stored": 3, "kept": 7}
    assert store(listed, photos, dst, Store(size=32, quality=50)) == {"stored": 10}


def test_central_part_is_squeezed_in_one_step(tmp_path: Path) -> None:
    """A frame of black, 10 % wide, around white: the central 75 % is white alone, whatever the shape."""
    pixels = np.zeros((300, 200, 3), np.uint8)
    pixels[30:-30, 20:-20] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    data = encode(tmp_path / "a.png", Store(size=40, crop=0.75))
    assert data is not None
    (tmp_path / "b.jpg").write_bytes(data)
    assert np.asarray(Image.open(tmp_path / "b.jpg")).min() > 240
    whole = encode(tmp_path / "a.png", Store(size=40, crop=1.0))
    assert whole is not None
    (tmp_path / "c.jpg").write_bytes(whole)
    assert np.asarray(Image.open(tmp_path / "c.jpg"))[0].max() < 30


def test_upright_without_exif(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "camera"
    draw_photo(3).save(tmp_path / "a.jpg", exif=exif, quality=95)
    data = encode(tmp_path / "a.jpg", Store(size=32, crop=1.0, quality=95))
    assert data is not None
    (tmp_path / "b.jpg").write_bytes(data)
    with Image.open(tmp_path / "b.jpg") as image:
        assert not image.getexif()
        upright = draw_photo(3).rotate(-90, expand=True).resize((32, 32), Image.Resampling.LANCZOS)
        assert np.abs(np.asarray(image, float) - np.asarray(upright, float)).mean() < 10
        assert np.abs(np.asarray(image, float) - np.asarray(upright.rotate(90), float)).mean() > 20


def test_unreadable_photo_arrives_for_the_verification_to_tell(
    photos: Path, tmp_path: Path, listed: list[Photo]
) -> None:
    (photos / listed[0].path).write_text("no photo")
    dst = tmp_path / "small"
    assert store(listed, photos, dst, SMALL) == {"stored": 9, "copied": 1}
    assert (dst / listed[0].path).read_text() == "no photo"
    assert list(unstored(listed, photos, dst, SMALL)) == []


@pytest.mark.parametrize(("path", "stored"), [("a/x.jpg", "a/x.jpg"), ("a/x.JPEG", "a/x.JPEG"), ("x.png", "x.png.jpg")])
def test_names(path: str, stored: str) -> None:
    assert stored_path(path) == stored


def test_originals_are_never_written_over(photos: Path, listed: list[Photo]) -> None:
    with pytest.raises(DataError, match=r"dataset\.store would write over the photos in .*; set paths\.dst_dataset"):
        store(listed, photos, photos / ".." / "photos", SMALL)


def test_one_and_two_workers_store_the_same(photos: Path, tmp_path: Path, listed: list[Photo]) -> None:
    many = []
    for i in range(21):  # above the 200 photos from which processes are started
        (tmp_path / "many" / str(i)).mkdir(parents=True)
        for j, photo in enumerate(listed):
            os.link(photos / photo.path, tmp_path / f"many/{i}/{j}.jpg")
            many.append(Photo(f"{i}/{j}.jpg", "Aves", "x"))
    for workers in (1, 2):
        assert store(many, tmp_path / "many", tmp_path / f"out{workers}", SMALL, workers) == {"stored": 210}
    for photo in many:
        assert (tmp_path / "out1" / photo.path).read_bytes() == (tmp_path / "out2" / photo.path).read_bytes()
