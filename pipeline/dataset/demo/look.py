"""Description of an invented arthropod: marks on parts, limbs, the whole look.

Animal units: the head is at y = 0, the tail near y = 1, x points to the animal's side; all lengths are body lengths.
"""

from __future__ import annotations

from dataclasses import dataclass

Rgb = tuple[int, int, int]


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
