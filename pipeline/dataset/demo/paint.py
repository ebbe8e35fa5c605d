"""Drawing primitives: polygons, layers, blur and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from pipeline.dataset.demo.look import Rgb

Floats = NDArray[np.float32]
Points = NDArray[np.float64]
OVERSAMPLING = 3  # everything with an edge is drawn this much larger, then averaged down


@dataclass(frozen=True)
class Shape:
    """A filled polygon, or with `thick` > 0 a line: points [n, 2] as (x, y) in animal units or in pixels."""

    points: Points
    colour: Rgb
    thick: float = 0.0


def paint(shapes: list[Shape], frame: tuple[int, int]) -> Floats:
    """The shapes (pixels) as an antialiased layer [h, w, 4], 0..1, with a thin dark rim around each polygon.

    Its colours are premultiplied by alpha; opaque colours already are, so drawing that way saves two conversions.
    """
    layer = Image.new("RGBa", (frame[1] * OVERSAMPLING, frame[0] * OVERSAMPLING))
    pen = ImageDraw.Draw(layer)
    for shape in shapes:
        corners = [(float(x), float(y)) for x, y in shape.points * OVERSAMPLING]
        if shape.thick > 0.0:
            pen.line(corners, fill=(*shape.colour, 255), width=max(2, round(shape.thick * OVERSAMPLING)), joint="curve")
        else:
            red, green, blue = (int(0.6 * v) for v in shape.colour)
            pen.polygon(corners, fill=(*shape.colour, 255), outline=(red, green, blue, 255))
    return np.asarray(layer.reduce(OVERSAMPLING), dtype=np.float32) / np.float32(255)


def over(image: Floats, layer: Floats) -> Floats:
    """A premultiplied layer [h, w, 4] laid over an image [h, w, 3]."""
    return image * (1 - layer[..., 3:]) + layer[..., :3]


def smooth(image: Floats, sigma: float) -> Floats:
    """Gaussian blur over the first two axes; sigma in pixels, below 0.3 nothing happens."""
    if sigma < 0.3:
        return image
    for axis in (0, 1):
        image = ndimage.gaussian_filter1d(image, sigma, axis=axis, truncate=2.5, mode="nearest")
    return image


def fractal(frame: tuple[int, ...], rng: np.random.Generator, cells: int, octaves: int, stretch: int = 1) -> Floats:
    """Smooth noise [h, w] of about unit variance: `cells` bumps across, then ever finer and weaker ones."""
    total = np.zeros(frame, np.float32)
    for octave in range(octaves):
        rows = cells * 2**octave + 1
        total += fit(rng.standard_normal((rows, rows * stretch), dtype=np.float32), frame) * np.float32(0.65**octave)
    return total / np.float32(np.sqrt(sum(0.65 ** (2 * octave) for octave in range(octaves))) * 0.75)


def fit(grid: Floats, frame: tuple[int, ...]) -> Floats:
    """A grid of numbers resized smoothly to [h, w]."""
    return np.asarray(Image.fromarray(grid).resize((frame[1], frame[0]), Image.Resampling.BICUBIC), dtype=np.float32)
