"""Preprocessing of photos, in one place: decode, orient, crop, resize to uint8 RGB. The scaling is inside the network."""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import UnreadableImage

# 200 megapixels: the largest phone cameras, below what fills a Pi's memory (0.8 GB: Pillow keeps 4 bytes a pixel)
MAX_PIXELS = 200_000_000
warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit counts
Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # Pillow refuses above twice its limit and warns below; its own one is 179 MP

Geometry = tuple[int, float, str]


@dataclass(frozen=True)
class Recipe:
    """How a model wants its photos.

    size: side of the square network input, px. crop: central share of the photo that is looked at, 0 < crop <= 1.
    fit: "square" takes the central square, "squash" takes the whole width and height and changes the aspect ratio.
    decode_side: JPEG files are decoded at the smallest scale (1/8, 1/4, 1/2, 1) whose short side has at least this
    many pixels; 0 switches that off. colour_order is always RGB; it is kept so that a reader need not guess.
    mean, std: the network's scaling (x / 255 - mean) / std per channel, done INSIDE the exported graph.
    """

    size: int = 160
    crop: float = 0.875
    fit: str = "square"
    decode_side: int = 320
    colour_order: str = "RGB"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        known = self.fit in ("square", "squash") and self.colour_order == "RGB"
        if not (known and 0 < self.crop <= 1 and self.size > 0 and self.decode_side >= 0 and min(self.std) > 0):
            raise ValueError(f"recipe out of range: {self}")

    @staticmethod
    def from_dict(data: dict[str, Any]) -> Recipe:
        """Read a recipe back from JSON; unknown keys raise TypeError."""
        return Recipe(**{**data, "mean": tuple(data["mean"]), "std": tuple(data["std"])})

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @property
    def geometry(self) -> Geometry:
        """What the prepared pixels depend on; stages that share it share the pixels."""
        return self.size, self.crop, self.fit

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits that change when any field changes."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:12]


def decode(
    source: Path | str | bytes, decode_side: int = 0, max_pixels: int = MAX_PIXELS, formats: list[str] | None = None
) -> Image.Image:
    """Open a photo as upright 8-bit RGB; raises UnreadableImage for whatever is not a whole, sane picture.

    Grey, palette, CMYK and 16-bit pictures are converted, transparency becomes white, the EXIF orientation is applied.
    decode_side: see Recipe. max_pixels: half as many for a picture that is transparent, 16-bit or CMYK. formats: those
    of Pillow's to try, none: all.
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=formats) as image:
            width, height = image.size
            # the others are there twice while they are converted
            max_pixels //= 1 if image.mode in ("1", "L", "P", "RGB") and "transparency" not in image.info else 2
            if width * height > max_pixels:
                told = f"{width} x {height} px: more than the limit of {max_pixels / 1e6:.0f} megapixels"
                raise Image.DecompressionBombError(told)
            if decode_side and image.format in ("JPEG", "MPO"):  # MPO: several JPEGs, as some cameras write
                scale = max(1.0, min(width, height) / decode_side)
                image.draft("RGB", (int(width / scale), int(height / scale)))
            ImageOps.exif_transpose(image, in_place=True)
            return _to_rgb(image)
    except Image.DecompressionBombError as error:  # also of Pillow itself, beyond MAX_PIXELS
        raise UnreadableImage(str(error).partition(",")[0]) from error
    except FileNotFoundError as error:
        raise UnreadableImage("no such file") from error
    except UnidentifiedImageError as error:
        raise UnreadableImage("is no image in a format that Pillow knows") from error
    except Exception as error:  # Pillow's decoders raise many kinds (OSError, SyntaxError, struct.error, ...)
        reason = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
        raise UnreadableImage(f"cannot be decoded: {reason}") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values: NDArray[np.float32] = np.array(image, dtype=np.float32)
        values /= np.float32(257 if values.max(initial=0) > 255 else 1)  # 65535 -> 255
        return Image.fromarray(values.clip(0, 255, out=values).round(out=values).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        white, above = Image.new("RGB", image.size, "white"), image if image.mode == "RGBA" else image.convert("RGBA")
        white.paste(above, mask=above)
        return white
    image.load()
    return image if image.mode == "RGB" else image.convert("RGB")


def preprocess(image: Image.Image, recipe: Recipe) -> NDArray[np.uint8]:
    """Crop and resize (anti-aliased bilinear) to what the network takes: uint8, (size, size, 3), RGB."""
    size = (recipe.size, recipe.size)
    if size == image.size and recipe.crop == 1:
        return np.asarray(image)
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR, box=view(*image.size, recipe)))


def view(width: int, height: int, recipe: Recipe) -> tuple[float, float, float, float]:
    """The part of a photo that a recipe looks at: left, top, right, bottom, px."""
    sides = (min(width, height),) * 2 if recipe.fit == "square" else (width, height)
    w, h = (recipe.crop * side for side in sides)
    left, top = (width - w) / 2, (height - h) / 2
    return left, top, left + w, top + h
