"""Backgrounds of the drawn photos: leaf, soil, bark, sky, grass."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.dataset.demo.look import Rgb
from pipeline.dataset.demo.paint import Floats, Shape, fit, fractal, over, paint, smooth


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
