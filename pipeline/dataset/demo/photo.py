"""Draw one photo of an invented arthropod from its `Look` and a random generator."""

from __future__ import annotations

import numpy as np
from PIL import Image

from pipeline.dataset.demo.animal import animal_shapes, individual
from pipeline.dataset.demo.look import Look
from pipeline.dataset.demo.paint import Floats, Points, Shape, fractal, over, paint, smooth
from pipeline.dataset.demo.scene import background, grass


def draw_photo(look: Look, rng: np.random.Generator) -> Image.Image:
    """An RGB photo of one individual, 128..176 px a side."""
    height, width = (144, 144) if rng.random() < 0.5 else (int(rng.integers(128, 177)), int(rng.integers(128, 177)))
    frame = (height, width)
    image = background(frame, rng)
    animal = place(list(animal_shapes(individual(look, rng), rng)), frame, rng)
    light = rng.uniform(0.0, 2.0 * np.pi)
    image = put_animal(image, paint(animal, frame), light, rng)
    if rng.random() < 0.35:
        image = over(image, paint(grass(frame, rng, int(rng.integers(1, 4)), (0.008, 0.022)), frame))
    return develop(image, light, rng)


def place(shapes: list[Shape], frame: tuple[int, int], rng: np.random.Generator) -> list[Shape]:
    """The shapes in pixels: rotated, sheared, seen slightly at an angle, filling 0.45..0.9 of the frame."""
    everything = np.concatenate([shape.points for shape in shapes])
    middle = (everything.min(axis=0) + everything.max(axis=0)) / 2.0
    angle, lean = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.0, 2.0 * np.pi)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    shear = np.array([[1.0, rng.normal(0.0, 0.07)], [0.0, rng.uniform(0.88, 1.0)]])
    tilt = rng.uniform(0.0, 0.15) * np.array([np.cos(lean), np.sin(lean)])

    def seen(points: Points) -> Points:
        flat = (points - middle) @ turn @ shear
        projected: Points = flat / (1.0 + flat @ tilt)[:, None]
        return projected

    view = seen(everything)
    low, high = view.min(axis=0), view.max(axis=0)
    zoom = rng.uniform(0.45, 0.9) * min(frame) / float((high - low).max())
    room = (np.array([frame[1], frame[0]]) - zoom * (high - low)) / 2.0
    centre = np.array([frame[1], frame[0]]) / 2.0 + room * rng.uniform(-0.8, 0.8, 2)
    return [
        Shape((seen(shape.points) - (low + high) / 2.0) * zoom + centre, shape.colour, shape.thick * zoom)
        for shape in shapes
    ]


def put_animal(image: Floats, layer: Floats, light: float, rng: np.random.Generator) -> Floats:
    """The animal on its ground: a soft shadow away from the light, and a body that looks round and a little glossy."""
    alpha = layer[..., 3]
    towards = np.array([np.sin(light), np.cos(light)])
    drop = -towards * rng.uniform(1.5, 5.0)
    shadow = smooth(np.roll(alpha, (round(drop[0]), round(drop[1])), axis=(0, 1)), rng.uniform(1.5, 3.5))
    image = image * (1 - np.float32(rng.uniform(0.25, 0.65)) * shadow)[..., None]
    dome = smooth(alpha, 3.0)
    slope_y, slope_x = np.gradient(dome)
    facing = -(slope_y * np.float32(towards[0]) + slope_x * np.float32(towards[1]))
    shade = 1 + np.float32(rng.uniform(1.5, 3.5)) * facing + np.float32(0.05) * fractal(alpha.shape, rng, 24, 2)
    gloss = np.float32(rng.uniform(0.0, 0.22)) * np.clip(facing * 14, 0, 1) * dome**4
    body = np.minimum(layer[..., :3] * shade[..., None] + (gloss * alpha)[..., None], alpha[..., None])
    return over(image, np.dstack([body, alpha]))


def develop(image: Floats, light: float, rng: np.random.Generator) -> Image.Image:
    """What light and camera add to a scene: uneven light, colour cast, vignette, blur, sensor noise."""
    height, width = image.shape[:2]
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    falloff = 1.0 + rng.uniform(0.0, 0.25) * (y * np.sin(light) + x * np.cos(light))
    falloff *= 1.0 - rng.uniform(0.0, 0.3) * (x**2 + y**2) / 2.0
    if rng.random() < 0.25:  # the edge of a leaf's or the photographer's shadow
        edge = x * np.cos(light * 3.0) + y * np.sin(light * 3.0) - rng.uniform(-0.6, 0.6)
        falloff *= 1.0 - rng.uniform(0.2, 0.5) / (1.0 + np.exp(-edge * rng.uniform(6.0, 25.0)))
    cast = np.exp(rng.normal(0.0, 0.06, 3) + rng.normal(0.0, 0.17))
    image = image * (falloff[..., None] * cast).astype(np.float32)
    image = smooth(image, max(0.0, rng.normal(0.45, 0.45)))
    if rng.random() < 0.2:
        image = shaken(image, rng)
    image = image + np.float32(rng.uniform(0.0, 0.035)) * rng.standard_normal(image.shape, dtype=np.float32)
    return Image.fromarray((np.clip(image, 0, 1) * 255 + np.float32(0.5)).astype(np.uint8))


def shaken(image: Floats, rng: np.random.Generator) -> Floats:
    """Motion blur: the mean of five copies along a short straight path."""
    height, width = image.shape[:2]
    angle, step = rng.uniform(0.0, np.pi), rng.uniform(0.4, 1.0)
    wide = np.pad(image, ((4, 4), (4, 4), (0, 0)), mode="edge")
    moved = [(4 + round(i * step * np.sin(angle)), 4 + round(i * step * np.cos(angle))) for i in range(-2, 3)]
    total = sum((wide[y : y + height, x : x + width] for y, x in moved), np.zeros_like(image))
    return total / np.float32(5)
