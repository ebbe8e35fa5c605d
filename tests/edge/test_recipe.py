"""One way to look at a photo: whatever the file, upright 8-bit RGB comes out, or a reason."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.edge.errors import UnreadableImage
from pipeline.edge.recipe import MAX_PIXELS, Recipe, decode, preprocess

SCENE = np.random.default_rng(3).integers(0, 256, (6, 8, 3), dtype=np.uint8)
Transpose = Image.Transpose
UNDO = {  # what a camera held so does to the upright picture
    1: None,
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_90,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_270,
}


def scene(width: int, height: int) -> Image.Image:
    return Image.fromarray(SCENE).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixel(data: bytes) -> tuple[int, ...]:
    image = decode(data)
    assert image.mode == "RGB"
    value = image.getpixel((1, 1))
    assert isinstance(value, tuple)
    return value


def png_header(width: int, height: int) -> bytes:
    """A PNG that says how large it is and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pieces = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(64))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + pieces


# what comes in ------------------------------------------------------------------------------------------------------


def test_grey_becomes_rgb() -> None:
    assert pixel(encoded(Image.new("L", (4, 4), 77))) == (77, 77, 77)


def test_one_bit_becomes_black_and_white() -> None:
    assert pixel(encoded(Image.new("1", (4, 4), 1))) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_not_clipped(kind: str) -> None:
    image = Image.fromarray(np.full((4, 4), 32896, np.uint16))
    image.putpixel((0, 0), 65535)
    assert pixel(encoded(image, kind)) == (128, 128, 128)
    assert decode(encoded(image, kind)).getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bit_in_mode_i_is_scaled_not_clipped() -> None:
    data = encoded(Image.fromarray(np.full((4, 4), 32896, np.int32)), "TIFF")
    assert Image.open(io.BytesIO(data)).mode == "I"
    assert pixel(data) == (128, 128, 128)


def test_transparent_becomes_white_and_half_transparent_half_white() -> None:
    assert pixel(encoded(Image.new("RGBA", (4, 4), (200, 0, 0, 0)))) == (255, 255, 255)
    assert pixel(encoded(Image.new("RGBA", (4, 4), (200, 0, 0, 255)))) == (200, 0, 0)
    red, green, blue = pixel(encoded(Image.new("RGBA", (4, 4), (200, 0, 0, 128))))
    assert abs(red - 227) <= 1
    assert abs(green - 127) <= 1
    assert green == blue


def test_grey_with_alpha_is_laid_on_white() -> None:
    assert pixel(encoded(Image.new("LA", (4, 4), (40, 0)))) == (255, 255, 255)
    assert pixel(encoded(Image.new("LA", (4, 4), (40, 255)))) == (40, 40, 40)


def test_palette_with_transparency_is_laid_on_white() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([10, 20, 30, 40, 50, 60])
    assert pixel(encoded(image)) == (40, 50, 60)
    assert pixel(encoded(image, transparency=0)) == (40, 50, 60)
    assert pixel(encoded(image, transparency=1)) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(kind: str) -> None:
    red, green, blue = pixel(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), kind))
    assert red > 200
    assert max(green, blue) < 60


@pytest.mark.parametrize("orientation", UNDO)
def test_rotated_photos_equal_the_upright_one(orientation: int) -> None:
    upright = scene(64, 40)
    turn = UNDO[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = upright if turn is None else upright.transpose(turn)
    assert np.array_equal(decode(encoded(stored, exif=exif)), upright)


@pytest.mark.parametrize("orientation", [6, 7])
def test_rotated_jpegs_decoded_at_reduced_scale_stand_upright(orientation: int) -> None:
    upright = scene(640, 480)
    exif = Image.Exif()
    exif[0x0112] = orientation
    turn = UNDO[orientation]
    assert turn is not None
    small = decode(encoded(upright.transpose(turn), "JPEG", quality=95, exif=exif), 120)
    assert small.size == (160, 120)
    assert np.abs(np.asarray(small, float) - np.asarray(upright.resize((160, 120)), float)).mean() < 2


def test_broken_exif_does_not_matter() -> None:
    assert decode(encoded(scene(64, 40), "JPEG", exif=b"Exif\0\0garbage")).size == (64, 40)


def test_path_string_and_bytes_give_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a photo é.jpg"
    path.write_bytes(encoded(scene(64, 40), "JPEG"))
    assert np.array_equal(decode(path), decode(str(path)))
    assert np.array_equal(decode(path), decode(path.read_bytes()))


# what is refused ----------------------------------------------------------------------------------------------------


def test_truncated_jpeg_is_refused() -> None:
    data = encoded(scene(200, 150), "JPEG")
    with pytest.raises(UnreadableImage, match="cannot be decoded: .*truncated"):
        decode(data[: len(data) // 2])


@pytest.mark.parametrize("data", [b"this is no photo\n", b"", b"\xff\xd8\xff\xe0"])
def test_text_called_jpg_is_refused_with_the_same_words_each_time(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "text.jpg").write_bytes(data)
    for source in (tmp_path / "text.jpg", data):
        with pytest.raises(UnreadableImage) as caught:
            decode(source)
        assert str(caught.value) == "is no image in a format that Pillow knows"


def test_huge_png_is_refused_from_its_header() -> None:
    start = time.process_time()
    with pytest.raises(UnreadableImage, match=r"exceeds limit of 200000000 pixels$"):
        decode(png_header(50_000, 50_000))
    assert time.process_time() - start < 0.1


def test_a_lower_limit_names_the_size() -> None:
    with pytest.raises(UnreadableImage, match="2000 x 1000 px: more than the limit of 1 megapixels"):
        decode(png_header(2000, 1000), max_pixels=1_000_000)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "I;16"])
def test_pictures_that_take_twice_the_memory_have_half_the_limit(mode: str) -> None:
    data = encoded(Image.new(mode, (1000, 600)))
    assert decode(data, max_pixels=1_200_000).size == (1000, 600)
    with pytest.raises(UnreadableImage, match="1000 x 600 px: more than the limit of 1 megapixels"):
        decode(data, max_pixels=1_199_998)


DECODES = """
import resource, sys
from pathlib import Path
from pipeline.edge.recipe import decode
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
width, height = decode(Path(sys.argv[1])).size
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / (width * height))
"""


@pytest.mark.parametrize("mode", ["RGBA", "LA", "I;16"])
def test_a_decoded_picture_takes_at_most_ten_bytes_a_pixel(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (4000, 4000)).save(tmp_path / "a.png")
    done = subprocess.run(
        [sys.executable, "-c", DECODES, str(tmp_path / "a.png")], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 10


def test_the_largest_cameras_are_below_the_limit() -> None:
    size = (16320, 12240)
    assert size[0] * size[1] < MAX_PIXELS
    with pytest.warns(Image.DecompressionBombWarning):  # not Pillow's error either, and decode() ignores the warning
        assert Image.open(io.BytesIO(png_header(*size))).size == size


def test_missing_file_and_folder_are_refused_without_their_path(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match="^no such file$"):
        decode(tmp_path / "none.jpg")
    with pytest.raises(UnreadableImage, match="^cannot be decoded: Is a directory$"):
        decode(tmp_path)


# reduced scale ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def camera_jpeg() -> bytes:
    return encoded(scene(4000, 3000), "JPEG", quality=90)


def test_camera_jpeg_is_decoded_at_an_eighth(camera_jpeg: bytes) -> None:
    assert decode(camera_jpeg, 320).size == (500, 375)


@pytest.mark.parametrize(("side", "size"), [(376, (1000, 750)), (375, (500, 375)), (0, (4000, 3000))])
def test_short_side_never_falls_below_decode_side(camera_jpeg: bytes, side: int, size: tuple[int, int]) -> None:
    assert decode(camera_jpeg, side).size == size


@pytest.mark.parametrize("fit", ["square", "squash"])
def test_reduced_scale_changes_the_networks_input_little(camera_jpeg: bytes, fit: str) -> None:
    recipe = Recipe(fit=fit)
    reduced = preprocess(decode(camera_jpeg, recipe.decode_side), recipe).astype(float)
    full = preprocess(decode(camera_jpeg), recipe).astype(float)
    assert np.abs(reduced - full).mean() < 1
    assert np.abs(reduced - full).max() < 12


def test_small_jpegs_and_other_formats_are_decoded_whole() -> None:
    assert decode(encoded(scene(200, 150), "JPEG"), 320).size == (200, 150)
    assert decode(encoded(scene(1600, 1200), "PNG"), 320).size == (1600, 1200)


def test_several_jpegs_in_one_file_are_decoded_at_reduced_scale_too() -> None:
    data = encoded(scene(1600, 1200), "MPO", save_all=True, append_images=[scene(1600, 1200)])
    assert Image.open(io.BytesIO(data)).format == "MPO"
    assert decode(data, 320).size == (800, 600)


# the recipe ---------------------------------------------------------------------------------------------------------


def halves(width: int, height: int) -> Image.Image:
    """Blue frame, left half red and right half green inside it."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 2] = 255
    h, w = height // 10, width // 10
    image[h:-h, w : width // 2] = (255, 0, 0)
    image[h:-h, width // 2 : -w] = (0, 255, 0)
    return Image.fromarray(image)


def test_square_takes_the_central_square() -> None:
    wide = Image.new("RGB", (300, 100), (0, 0, 255))
    wide.paste((255, 0, 0), (100, 0, 200, 100))
    inside = preprocess(wide, Recipe(size=50, crop=1))[:, 1:-1]  # the filter looks half a pixel over the edge
    assert np.array_equal(np.unique(inside.reshape(-1, 3), axis=0), [[255, 0, 0]])


def test_squash_takes_the_whole_width() -> None:
    result = preprocess(halves(300, 100), Recipe(size=60, crop=1, fit="squash"))
    assert result[30, 1].tolist() == [0, 0, 255]
    assert result[30, 15].tolist() == [255, 0, 0]
    assert result[30, 45].tolist() == [0, 255, 0]


@pytest.mark.parametrize("size", [(200, 200), (300, 100)])
def test_crop_cuts_the_frame_off(size: tuple[int, int]) -> None:
    result = preprocess(halves(*size), Recipe(size=40, crop=0.75, fit="squash"))
    assert result[..., 2].max() == 0
    assert result[20, 5].tolist() == [255, 0, 0]


def test_result_is_uint8_rgb_of_the_stated_size() -> None:
    for image in (scene(64, 40), scene(17, 333), scene(1, 1)):
        result = preprocess(image, Recipe(size=48))
        assert (result.shape, result.dtype) == ((48, 48, 3), np.uint8)


def test_photo_of_the_right_size_is_left_as_it_is() -> None:
    image = scene(160, 160)
    assert np.array_equal(preprocess(image, Recipe(crop=1)), image)


def test_recipe_goes_through_json_and_back() -> None:
    recipe = Recipe(size=224, crop=0.9, fit="squash", decode_side=0, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    again = Recipe.from_dict(recipe.to_dict())
    assert again == recipe
    assert again.hash == recipe.hash


def test_hash_changes_with_every_field() -> None:
    changed = [
        Recipe(size=161),
        Recipe(crop=0.9),
        Recipe(fit="squash"),
        Recipe(decode_side=0),
        Recipe(mean=(0.5, 0.5, 0.4)),
        Recipe(std=(0.5, 0.5, 0.4)),
    ]
    assert len({Recipe().hash, *(recipe.hash for recipe in changed)}) == len(changed) + 1


def test_unknown_keys_of_a_recipe_are_refused() -> None:
    with pytest.raises(TypeError, match="zoom"):
        Recipe.from_dict({**Recipe().to_dict(), "zoom": 2})


@pytest.mark.parametrize(
    "wrong",
    [
        {"crop": 0.0},
        {"crop": 1.01},
        {"size": 0},
        {"fit": "stretch"},
        {"colour_order": "BGR"},
        {"decode_side": -1},
        {"std": (0.5, 0.0, 0.5)},
    ],
)
def test_recipe_out_of_range_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="recipe out of range"):
        Recipe.from_dict({**Recipe().to_dict(), **wrong})
