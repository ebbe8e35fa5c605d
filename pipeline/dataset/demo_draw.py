"""Draws one photo of an invented arthropod: a `Look` (what the species is like) and a random generator in, pixels out.

Animal units: the head is at y = 0, the tail near y = 1, x points to the animal's side; all lengths are body lengths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

Rgb = tuple[int, int, int]
Floats = NDArray[np.float32]
Points = NDArray[np.float64]

OVERSAMPLING = 3  # everything with an edge is drawn this much larger, then averaged down


@dataclass(frozen=True)
class Mark:
    """One pattern element of a part, placed at `t` (0 base .. 1 end) and `f` (0 axis .. 1 edge).

    A spot is an ellipse whose half axes `length`, `width` are fractions of the part's length; a band is the patch
    `t` +- `length`, `f` +- `width` and follows the part's outline. Marks off the axis of an unpaired part are mirrored.
    """

    t: float
    f: float
    length: float
    width: float
    colour: Rgb
    band: bool = False


@dataclass(frozen=True)
class Part:
    """A lobe (head, abdomen, wing ...) from `at` in direction `angle` (degrees: 0 tailwards, 90 sideways, 180 ahead).

    `width` is its greatest half-width. `blunt` shapes the ends (0.2 boxy, 0.5 an ellipse, 0.9 pointed); `skew` > 1
    moves the widest place towards the end. Parts with an angle or off the axis come as a mirrored pair.
    """

    name: str
    at: tuple[float, float]
    length: float
    width: float
    colour: Rgb
    angle: float = 0.0
    blunt: float = 0.5
    skew: float = 1.0
    marks: tuple[Mark, ...] = ()

    @property
    def paired(self) -> bool:
        return self.angle != 0.0 or self.at[0] != 0.0


@dataclass(frozen=True)
class Limbs:
    """Pairs of legs or antennae: one pair per entry of `angles` (degrees as in `Part`), spread from y0 to y1.

    Each limb has `joints` straight pieces and turns by `bend` degrees over its length; `tip` colours the last piece.
    """

    name: str
    x: float
    y0: float
    y1: float
    angles: tuple[float, ...]
    length: float
    thick: float
    colour: Rgb
    bend: float = 40.0
    joints: int = 3
    tip: Rgb | None = None


@dataclass(frozen=True)
class Look:
    """Everything that tells one species from another; limbs lie under the parts, later parts over earlier ones."""

    limbs: tuple[Limbs, ...]
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Shape:
    """A filled polygon, or with `thick` > 0 a line: points [n, 2] as (x, y) in animal units or in pixels."""

    points: Points
    colour: Rgb
    thick: float = 0.0


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


def individual(look: Look, rng: np.random.Generator) -> Look:
    """The same species, another animal: a tint of its own and slightly other sizes, angles and marks."""
    tint = np.exp(rng.normal(0.0, 0.05, 3) + rng.normal(0.0, 0.08))

    def tinted(colour: Rgb) -> Rgb:
        red, green, blue = (int(v) for v in np.clip(np.asarray(colour) * tint, 0, 255))
        return red, green, blue

    def about(value: float, spread: float) -> float:
        return float(value * (1.0 + np.clip(rng.normal(0.0, spread), -2.5 * spread, 2.5 * spread)))

    limbs = tuple(
        replace(
            limb,
            length=about(limb.length, 0.05),
            thick=about(limb.thick, 0.08),
            colour=tinted(limb.colour),
            tip=tinted(limb.tip) if limb.tip else None,
        )
        for limb in look.limbs
    )
    parts = tuple(
        replace(
            part,
            length=about(part.length, 0.02),
            width=about(part.width, 0.04),
            angle=about(part.angle, 0.06),
            colour=tinted(part.colour),
            marks=tuple(
                replace(
                    mark,
                    t=about(mark.t, 0.02),
                    length=about(mark.length, 0.08),
                    width=mark.width if mark.band else about(mark.width, 0.08),
                    colour=tinted(mark.colour),
                )
                for mark in part.marks
            ),
        )
        for part in look.parts
    )
    return Look(limbs, parts)


def animal_shapes(look: Look, rng: np.random.Generator) -> Iterator[Shape]:
    """The animal's shapes in animal units, from below to above."""
    for limbs in look.limbs:
        yield from limb_shapes(limbs, rng)
    for part in look.parts:
        for side in (1.0, -1.0) if part.paired else (1.0,):
            yield from part_shapes(part, side)


def limb_shapes(limbs: Limbs, rng: np.random.Generator) -> Iterator[Shape]:
    """Both limbs of every pair; each limb stands a little differently, as in a walking animal."""
    rows = np.linspace(limbs.y0, limbs.y1, len(limbs.angles))
    for y, angle in zip(rows, limbs.angles, strict=True):
        for side in (1.0, -1.0):
            start = angle + rng.normal(0.0, 7.0)
            # Limbs that point ahead bend further ahead, the others tailwards.
            bend = (limbs.bend + rng.normal(0.0, 8.0)) * (1.0 if angle > 90.0 else -1.0)
            turns = np.radians(start - bend / 2.0 + bend * np.linspace(0.0, 1.0, limbs.joints))
            steps = np.stack([np.sin(turns), np.cos(turns)], axis=1) * (limbs.length / limbs.joints)
            points = np.concatenate([[[limbs.x, y]], np.array([limbs.x, y]) + np.cumsum(steps, axis=0)])
            points[:, 0] *= side
            yield Shape(points, limbs.colour, limbs.thick)
            yield Shape(points[-2:], limbs.tip or limbs.colour, limbs.thick * (1.0 if limbs.tip else 0.7))


def part_shapes(part: Part, side: float) -> Iterator[Shape]:
    """A part's outline and its marks, on one side (+1 or -1)."""
    yield Shape(patch(part, side, 0.0, 1.0, -1.0, 1.0), part.colour)
    for mark in part.marks:
        for half in (1.0,) if part.paired or mark.f == 0.0 else (1.0, -1.0):
            if mark.band:
                t0, t1 = max(mark.t - mark.length, 0.0), min(mark.t + mark.length, 1.0)
                f0, f1 = max(mark.f - mark.width, -1.0), min(mark.f + mark.width, 1.0)
                yield Shape(patch(part, side, t0, t1, *sorted((half * f0, half * f1))), mark.colour)
            else:
                turn = np.linspace(0.0, 2.0 * np.pi, 20, endpoint=False)
                centre = on_part(part, side, np.array([mark.t]), np.array([half * mark.f]))
                along, across = axes(part, side)
                ring = mark.length * np.cos(turn)[:, None] * along + mark.width * np.sin(turn)[:, None] * across
                yield Shape(centre + part.length * ring, mark.colour)


def patch(part: Part, side: float, t0: float, t1: float, f0: float, f1: float) -> Points:
    """The outline [48, 2] of the patch t0..t1, f0..f1 of a part."""
    t = np.linspace(t0, t1, 24)
    return np.concatenate([on_part(part, side, t, np.full(24, f0)), on_part(part, side, t[::-1], np.full(24, f1))])


def on_part(part: Part, side: float, t: Points, f: Points) -> Points:
    """Points [n, 2] at the part's own coordinates t, f [n]."""
    bent = t**part.skew
    half_width = part.width * (4.0 * bent * (1.0 - bent)) ** part.blunt
    along, across = axes(part, side)
    start = np.array([part.at[0] * side, part.at[1]])
    return start + t[:, None] * part.length * along + (f * half_width)[:, None] * across


def axes(part: Part, side: float) -> tuple[Points, Points]:
    """Unit vectors [2] along and across a part."""
    angle = np.radians(part.angle)
    return np.array([side * np.sin(angle), np.cos(angle)]), np.array([side * np.cos(angle), -np.sin(angle)])


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


def background(frame: tuple[int, int], rng: np.random.Generator) -> Floats:
    """One of the grounds [h, w, 3], 0..1, sometimes with grass and mostly a little out of focus."""
    grounds: tuple[Callable[[tuple[int, int], np.random.Generator], Floats], ...] = (leaf, soil, bark, sky)
    image = grounds[int(rng.choice(4, p=(0.4, 0.25, 0.2, 0.15)))](frame, rng)
    if rng.random() < 0.4:
        image = over(image, paint(grass(frame, rng, int(rng.integers(3, 12)), (0.01, 0.035)), frame))
    return np.clip(smooth(image, rng.uniform(0.0, 2.0)), 0, 1)


def leaf(frame: tuple[int, int], rng: np.random.Generator) -> Floats:
    """A green blade with a midrib and side veins."""
    base = np.array([rng.uniform(0.18, 0.5), rng.uniform(0.38, 0.6), rng.uniform(0.1, 0.28)], np.float32)
    angle, size = rng.uniform(0.0, np.pi), float(max(frame))
    along = np.array([np.cos(angle), np.sin(angle)])
    middle = np.array([frame[1], frame[0]]) * rng.uniform(0.25, 0.75, 2)
    paler = tuple(int(v) for v in np.clip(base * 255 * rng.uniform(1.1, 1.35) + 8, 0, 255))
    colour: Rgb = (paler[0], paler[1], paler[2])
    veins = [Shape(np.stack([middle - size * 1.5 * along, middle + size * 1.5 * along]), colour, 2.5)]
    for step in np.arange(-1.5, 1.5, rng.uniform(0.1, 0.2)):
        for side in (0.8, -0.8):
            out = np.array([np.cos(angle + side), np.sin(angle + side)])
            veins.append(
                Shape(np.stack([middle + step * size * along, middle + step * size * along + size * out]), colour, 1.0)
            )
    relief = 1 + np.float32(0.18) * fractal(frame, rng, 4, 4)
    return over(np.broadcast_to(base, (*frame, 3)), paint(veins, frame)) * relief[..., None]


def soil(frame: tuple[int, int], rng: np.random.Generator) -> Floats:
    """Brown earth with pebbles and crumbs."""
    tone = rng.uniform(0.25, 0.6)
    base = np.array([tone, tone * rng.uniform(0.72, 0.95), tone * rng.uniform(0.5, 0.8)], np.float32)
    turn = np.linspace(0.0, 2.0 * np.pi, 9, endpoint=False)
    pebbles = []
    for _ in range(int(rng.integers(15, 60))):
        centre = rng.uniform(0.0, 1.0, 2) * (frame[1], frame[0])
        radii = rng.uniform(0.7, 1.3, 9) * rng.gamma(2.0, 2.0)
        ring = np.stack([np.cos(turn) * radii, np.sin(turn) * radii * rng.uniform(0.5, 1.0)], axis=1)
        red, green, blue = (int(v) for v in np.clip(base * 255 * rng.uniform(0.6, 1.45), 0, 255))
        pebbles.append(Shape(centre + ring, (red, green, blue)))
    relief = 1 + np.float32(0.3) * fractal(frame, rng, 8, 4)
    return over(np.broadcast_to(base, (*frame, 3)), paint(pebbles, frame)) * relief[..., None]


def bark(frame: tuple[int, int], rng: np.random.Generator) -> Floats:
    """Grey to brown bark with cracks along the trunk."""
    tone = rng.uniform(0.3, 0.65)
    base = np.array([tone, tone * rng.uniform(0.82, 1.0), tone * rng.uniform(0.65, 0.95)], np.float32)
    ridges = fractal(frame, rng, 3, 4, stretch=5)
    cracks = np.clip(ridges * -4 - 3, 0, 1)
    relief = 1 + np.float32(0.2) * ridges - np.float32(rng.uniform(0.1, 0.4)) * cracks
    return base * (relief if rng.random() < 0.5 else fit(relief.T, frame))[..., None]


def sky(frame: tuple[int, int], rng: np.random.Generator) -> Floats:
    """A far, blurred ground: a gradient between two colours with pale discs of light."""
    ends = np.array([[0.55, 0.7, 0.9], [0.85, 0.88, 0.9], [0.45, 0.6, 0.3], [0.75, 0.65, 0.5]])
    first, second = ends[rng.choice(4, 2, replace=False)] * rng.uniform(0.75, 1.08, (2, 1))
    ramp = np.linspace(0.0, 1.0, frame[0])[:, None, None]
    image = np.broadcast_to(first * (1 - ramp) + second * ramp, (*frame, 3)).astype(np.float32)
    return image * (1 + np.float32(0.12) * fractal(frame, rng, 3, 2))[..., None]


def grass(frame: tuple[int, int], rng: np.random.Generator, blades: int, thick: tuple[float, float]) -> list[Shape]:
    """Curved tapering blades across the frame; their greatest half-width is a fraction of the frame."""
    shapes = []
    size = np.array([frame[1], frame[0]], dtype=np.float64)
    t = np.linspace(0.0, 1.0, 12)[:, None]
    for _ in range(blades):
        foot, tip = rng.uniform(-0.1, 1.1, 2), rng.uniform(-0.1, 1.1, 2)
        foot[int(rng.integers(2))] = rng.choice((-0.1, 1.1))  # every blade grows in from an edge
        knee = (foot + tip) / 2.0 + rng.normal(0.0, 0.12, 2)
        line = ((1 - t) ** 2 * foot + 2 * t * (1 - t) * knee + t**2 * tip) * size
        ahead = np.gradient(line, axis=0)
        normal = ahead[:, ::-1] * (-1, 1) / (np.linalg.norm(ahead, axis=1, keepdims=True) + 1e-6)
        half = normal * rng.uniform(*thick) * min(frame) * (1.0 - t**2)
        green = rng.uniform(90, 200)
        colour = (int(green * rng.uniform(0.5, 1.05)), int(green), int(green * rng.uniform(0.25, 0.6)))
        shapes.append(Shape(np.concatenate([line + half, (line - half)[::-1]]), colour))
    return shapes


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
