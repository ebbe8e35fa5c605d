"""Look-alikes land in one group, whatever was done to the copy; different photos do not."""

from __future__ import annotations

import io

import numpy as np
import pytest
from conftest import draw_photo
from PIL import Image, ImageEnhance

from pipeline.dataset.duplicates import SIDE, duplicate_groups, thumbnail


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


def groups(*images: Image.Image) -> list[int]:
    flat = np.frombuffer(b"".join(map(thumbnail, images)), np.uint8)
    return duplicate_groups(flat.reshape(-1, SIDE, SIDE)).tolist()


PHOTO = draw_photo(1, 160, 120)
COPIES = {
    "copy": PHOTO.copy(),
    "re-encoded": jpeg(PHOTO, 30),
    "smaller": PHOTO.resize((80, 60)),
    "other aspect ratio": PHOTO.resize((120, 120)),
    "brighter": ImageEnhance.Brightness(PHOTO).enhance(1.1),
    "grey": PHOTO.convert("L"),
    "flipped": PHOTO.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "upside down": PHOTO.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    "rotated 90": PHOTO.transpose(Image.Transpose.ROTATE_90),
    "rotated 180": PHOTO.transpose(Image.Transpose.ROTATE_180),
    "rotated 270": PHOTO.transpose(Image.Transpose.ROTATE_270),
    "transposed": PHOTO.transpose(Image.Transpose.TRANSPOSE),
    "transversed": PHOTO.transpose(Image.Transpose.TRANSVERSE),
}


@pytest.mark.parametrize("what", COPIES)
def test_copy_is_found_before_and_after_its_original(what: str) -> None:
    stranger = draw_photo(2, 160, 120)
    assert groups(PHOTO, stranger, COPIES[what]) == [0, 1, 0]
    assert groups(COPIES[what], stranger, PHOTO) == [0, 1, 0]


def test_large_photo_full_of_detail_is_found_in_other_sizes() -> None:
    grain = np.random.default_rng(0).integers(-60, 60, (480, 640, 1))
    large = Image.fromarray(np.clip(np.asarray(draw_photo(1, 640, 480), int) + grain, 0, 255).astype(np.uint8))
    assert groups(large, draw_photo(2, 640, 480), large.resize((500, 375)), jpeg(large.resize((160, 120)), 50)) == [
        0,
        1,
        0,
        0,
    ]


def test_different_photos_share_no_group() -> None:
    assert groups(*(draw_photo(seed) for seed in range(200))) == list(range(200))


def test_groups_are_numbered_by_first_appearance_and_chain() -> None:
    twice_done = jpeg(COPIES["rotated 90"], 40)
    assert groups(draw_photo(3), PHOTO, draw_photo(4), COPIES["rotated 90"], twice_done) == [0, 1, 2, 1, 1]


def test_blank_photos_are_like_nothing() -> None:
    assert groups(Image.new("RGB", (40, 30), "white"), Image.new("RGB", (40, 30), "white"), PHOTO) == [0, 1, 2]


def test_no_photos_and_one_photo() -> None:
    assert duplicate_groups(np.zeros((0, 16, 16), np.uint8)).tolist() == []
    assert groups(PHOTO) == [0]
