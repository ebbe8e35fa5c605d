"""Geometry of one individual: from a look to outlines in animal units (see look)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from pipeline.dataset.demo.look import Limbs, Look, Part, Rgb
from pipeline.dataset.demo.paint import Points, Shape


def individual(look: Look, rng: np.random.Generator) -> Look:
    """Another individual of the species: its own tint, and slightly different sizes, angles and marks."""
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
