"""The invented species: looks of nine kinds, and the differences of their look-alikes.

Look-alike species differ in one part only and sit across head and tail, so that a tiny network can learn the dominant
species while the tail needs a careful one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pipeline.dataset.demo.look import Limbs, Look, Mark, Part, Rgb

BLACK, DARK, GREY, WHITE = (28, 26, 28), (62, 46, 36), (120, 116, 112), (236, 232, 220)
RED, ORANGE, YELLOW, CREAM = (196, 44, 30), (226, 120, 32), (232, 200, 64), (222, 206, 160)
BROWN, TAN, RUST = (122, 82, 50), (182, 142, 92), (158, 72, 36)
GREEN, TEAL, BLUE, SKY = (84, 142, 50), (32, 112, 112), (36, 62, 150), (96, 170, 226)


@dataclass(frozen=True)
class DemoSpecies:
    """One invented species and how many photos of it a full-size set has."""

    group: str
    name: str
    photos: int
    look: Look
    listed: bool = True  # whether the region's list names it


def spot(t: float, f: float, radius: float, colour: Rgb) -> Mark:
    """A round mark."""
    return Mark(t, f, radius, radius, colour)


def band(t: float, half: float, colour: Rgb, f: float = 0.0, width: float = 1.0) -> Mark:
    """A mark from edge to edge, or with `f` and `width` a patch of that."""
    return Mark(t, f, half, width, colour, band=True)


def varied(look: Look, name: str, **changes: Any) -> Look:
    """A look-alike: the same look except for the part or limbs of one name."""
    return Look(
        tuple(replace(limbs, **changes) if limbs.name == name else limbs for limbs in look.limbs),
        tuple(replace(part, **changes) if part.name == name else part for part in look.parts),
    )


SUTURE = band(0.5, 0.5, BLACK, width=0.03)
LADYBIRD = Look(
    (
        Limbs("legs", 0.25, 0.35, 0.65, (120, 92, 62), 0.38, 0.045, BLACK),
        Limbs("antennae", 0.06, 0.02, 0.02, (150,), 0.16, 0.025, DARK, bend=30),
    ),
    (
        Part("head", (0, -0.02), 0.24, 0.15, BLACK),
        Part("pronotum", (0, 0.1), 0.3, 0.28, BLACK, blunt=0.35, marks=(spot(0.45, 0.72, 0.2, WHITE),)),
        Part(
            "elytra",
            (0, 0.28),
            0.72,
            0.42,
            RED,
            blunt=0.42,
            skew=0.85,
            marks=(
                SUTURE,
                spot(0.3, 0.55, 0.1, BLACK),
                spot(0.55, 0.4, 0.1, BLACK),
                spot(0.76, 0.6, 0.1, BLACK),
                spot(0.1, 0.0, 0.11, BLACK),
            ),
        ),
    ),
)
SHIELDBUG = Look(
    (
        Limbs("legs", 0.2, 0.3, 0.6, (125, 85, 45), 0.5, 0.035, BROWN),
        Limbs("antennae", 0.05, 0.03, 0.03, (148,), 0.42, 0.025, DARK, bend=20, joints=4),
    ),
    (
        Part("abdomen", (0, 0.2), 0.8, 0.38, RUST, blunt=0.5, skew=0.7),
        Part("wings", (0, 0.25), 0.76, 0.31, GREEN, blunt=0.45, skew=0.7, marks=(band(0.86, 0.14, DARK),)),
        Part("head", (0, 0), 0.24, 0.11, GREEN, blunt=0.4),
        Part("pronotum", (0, 0.13), 0.28, 0.4, GREEN, blunt=0.55, skew=1.3),
        Part("scutellum", (0, 0.33), 0.38, 0.2, (104, 160, 66), blunt=0.8, skew=0.45),
    ),
)
BUTTERFLY = Look(
    (Limbs("antennae", 0.03, 0.03, 0.03, (160,), 0.38, 0.02, DARK, bend=-12, tip=BLACK),),
    (
        Part(
            "hindwing",
            (0.04, 0.42),
            0.62,
            0.27,
            ORANGE,
            angle=58,
            blunt=0.5,
            skew=1.3,
            marks=(band(0.93, 0.07, DARK), spot(0.7, 0.15, 0.12, DARK), spot(0.7, 0.15, 0.055, SKY)),
        ),
        Part(
            "forewing",
            (0.04, 0.25),
            0.85,
            0.27,
            ORANGE,
            angle=112,
            blunt=0.5,
            skew=1.7,
            marks=(band(0.9, 0.1, DARK), spot(0.88, 0.05, 0.04, WHITE), spot(0.45, 0.2, 0.07, DARK)),
        ),
        Part("abdomen", (0, 0.35), 0.55, 0.06, DARK),
        Part("thorax", (0, 0.12), 0.32, 0.085, BROWN),
        Part("head", (0, 0), 0.16, 0.06, DARK),
    ),
)
LONGHORN = Look(
    (
        Limbs("legs", 0.13, 0.3, 0.55, (130, 85, 45), 0.55, 0.03, BLACK),
        Limbs("antennae", 0.06, 0.05, 0.05, (140,), 1.0, 0.022, BLACK, bend=-95, joints=8),
    ),
    (
        Part("head", (0, 0), 0.2, 0.1, BLACK, blunt=0.35),
        Part("pronotum", (0, 0.15), 0.22, 0.14, BLACK, blunt=0.4),
        Part(
            "elytra",
            (0, 0.32),
            0.68,
            0.19,
            BLACK,
            blunt=0.3,
            skew=0.85,
            marks=(band(0.3, 0.07, YELLOW), band(0.68, 0.07, YELLOW)),
        ),
    ),
)
DAMSEL = Look(
    (Limbs("legs", 0.05, 0.12, 0.24, (130, 85, 50), 0.2, 0.014, BLACK),),
    (
        Part("hindwing", (0.03, 0.22), 0.62, 0.075, (190, 206, 210), angle=78, blunt=0.4, skew=1.6),
        Part("forewing", (0.03, 0.17), 0.64, 0.07, (200, 214, 218), angle=104, blunt=0.4, skew=1.6),
        Part("abdomen", (0, 0.24), 0.78, 0.035, BLACK, blunt=0.2, marks=(band(0.86, 0.1, SKY),)),
        Part("thorax", (0, 0.06), 0.24, 0.07, TEAL),
        Part("eyes", (0.055, 0.0), 0.1, 0.045, BLUE),
        Part("head", (0, 0), 0.1, 0.05, TEAL),
    ),
)
SOLDIER = Look(
    (
        Limbs("legs", 0.11, 0.28, 0.5, (130, 85, 45), 0.42, 0.03, BLACK),
        Limbs("antennae", 0.05, 0.03, 0.03, (150,), 0.5, 0.022, BLACK, bend=-30, joints=5),
    ),
    (
        Part("abdomen", (0, 0.3), 0.72, 0.13, RUST, blunt=0.3),
        Part("elytra", (0.075, 0.31), 0.64, 0.075, DARK, angle=3, blunt=0.25),
        Part("head", (0, 0), 0.18, 0.09, BLACK, blunt=0.4),
        Part("pronotum", (0, 0.14), 0.2, 0.145, ORANGE, blunt=0.3, marks=(spot(0.5, 0.0, 0.26, BLACK),)),
    ),
)
ORBWEAVER = Look(
    (Limbs("legs", 0.14, 0.16, 0.34, (150, 115, 70, 32), 0.85, 0.04, TAN, bend=70, tip=DARK),),
    (
        Part("thorax", (0, 0.02), 0.4, 0.17, TAN, marks=(band(0.5, 0.4, BROWN, width=0.25),)),
        Part(
            "abdomen",
            (0, 0.32),
            0.68,
            0.33,
            BROWN,
            skew=0.8,
            marks=(
                Mark(0.38, 0.0, 0.28, 0.045, WHITE),
                Mark(0.3, 0.0, 0.045, 0.22, WHITE),
                spot(0.55, 0.3, 0.04, WHITE),
                spot(0.7, 0.25, 0.04, WHITE),
            ),
        ),
    ),
)
CELLAR = Look(
    (Limbs("legs", 0.08, 0.12, 0.24, (152, 115, 68, 30), 1.25, 0.026, TAN, bend=75, tip=BROWN),),
    (
        Part("abdomen", (0, 0.28), 0.72, 0.17, CREAM, blunt=0.4, marks=(spot(0.4, 0.4, 0.06, GREY),)),
        Part("thorax", (0, 0), 0.32, 0.16, TAN, marks=(spot(0.5, 0.0, 0.22, BROWN),)),
    ),
)
JUMPER = Look(
    (
        Limbs("legs", 0.18, 0.14, 0.38, (148, 112, 70, 38), 0.5, 0.065, DARK, bend=60),
        Limbs("palps", 0.08, 0.04, 0.04, (165,), 0.2, 0.06, GREY, bend=-20),
    ),
    (
        Part("thorax", (0, 0), 0.48, 0.24, BLACK, blunt=0.32, marks=(spot(0.14, 0.25, 0.1, WHITE),)),
        Part(
            "abdomen",
            (0, 0.44),
            0.56,
            0.23,
            BLACK,
            blunt=0.45,
            marks=(band(0.25, 0.06, WHITE), band(0.62, 0.06, WHITE)),
        ),
    ),
)
TEN_SPOTS = (
    SUTURE,
    *(spot(t, f, 0.075, BLACK) for t, f in ((0.14, 0.5), (0.38, 0.3), (0.42, 0.78), (0.68, 0.3), (0.7, 0.78))),
)
SIX_SPOTS = LADYBIRD.parts[2].marks[:-1]
TWO_EYES = (*BUTTERFLY.parts[0].marks, spot(0.66, -0.5, 0.1, DARK), spot(0.66, -0.5, 0.045, SKY))
WHITE_BAR = (*BUTTERFLY.parts[1].marks, band(0.66, 0.05, CREAM))
PLAIN_TIP = BUTTERFLY.parts[1].marks[2:]
THREE_BANDS = tuple(band(t, 0.055, YELLOW) for t in (0.22, 0.5, 0.78))
SPOT_ROWS = tuple(spot(t, f, 0.045, WHITE) for t, f in ((0.2, 0.25), (0.38, 0.3), (0.55, 0.3), (0.7, 0.25)))
LEAF_MARK = (Mark(0.45, 0.0, 0.36, 0.16, CREAM), Mark(0.45, 0.0, 0.28, 0.09, DARK))
SPECIES: tuple[DemoSpecies, ...] = (
    DemoSpecies("Insecta", "Ommatidius septempixelus", 260, LADYBIRD),
    DemoSpecies("Insecta", "Ommatidius decempixelus", 66, varied(LADYBIRD, "elytra", marks=TEN_SPOTS)),
    DemoSpecies("Insecta", "Ommatidius sexpixelus", 30, varied(LADYBIRD, "elytra", marks=SIX_SPOTS)),
    DemoSpecies("Insecta", "Ommatidius c-nullum", 16, varied(LADYBIRD, "pronotum", colour=CREAM)),
    DemoSpecies("Insecta", "Scutobyta compilata", 165, SHIELDBUG),
    DemoSpecies("Insecta", "Scutobyta flavotensa", 49, varied(SHIELDBUG, "scutellum", colour=YELLOW)),
    DemoSpecies("Insecta", "Scutobyta rubricauda", 24, varied(SHIELDBUG, "pronotum", marks=(band(0.72, 0.2, RUST),))),
    DemoSpecies("Insecta", "Pixellia gradientis", 122, BUTTERFLY),
    DemoSpecies("Insecta", "Pixellia biocellata", 43, varied(BUTTERFLY, "hindwing", marks=TWO_EYES)),
    DemoSpecies("Insecta", "Pixellia albibittata", 38, varied(BUTTERFLY, "forewing", marks=WHITE_BAR)),
    DemoSpecies("Insecta", "Pixellia nonterminata", 14, varied(BUTTERFLY, "forewing", marks=PLAIN_TIP)),
    DemoSpecies("Insecta", "Cacherambyx bifidelis", 95, LONGHORN),
    DemoSpecies("Insecta", "Cacherambyx trifidelis", 34, varied(LONGHORN, "elytra", marks=THREE_BANDS)),
    DemoSpecies("Insecta", "Cacherambyx latens", 18, varied(LONGHORN, "antennae", length=1.8), listed=False),
    DemoSpecies("Insecta", "Logitagrion caudacyanum", 78, DAMSEL),
    DemoSpecies(
        "Insecta",
        "Logitagrion medianum",
        27,
        varied(DAMSEL, "abdomen", marks=(band(0.45, 0.1, SKY), band(0.86, 0.1, SKY))),
    ),
    DemoSpecies("Insecta", "Kernelharis vulgata", 57, SOLDIER),
    DemoSpecies("Insecta", "Kernelharis nullata", 21, varied(SOLDIER, "pronotum", marks=())),
    DemoSpecies("Arachnida", "Araneobyta cruciquanta", 130, ORBWEAVER),
    DemoSpecies("Arachnida", "Araneobyta seriata", 42, varied(ORBWEAVER, "abdomen", marks=SPOT_ROWS), listed=False),
    DemoSpecies("Arachnida", "Araneobyta foliotensa", 21, varied(ORBWEAVER, "abdomen", marks=LEAF_MARK)),
    DemoSpecies("Arachnida", "Tensipholcus communis", 115, CELLAR),
    DemoSpecies("Arachnida", "Tensipholcus brevicrus", 14, varied(CELLAR, "legs", length=0.8)),
    DemoSpecies("Arachnida", "Saltivectus batchianus", 100, JUMPER),
    DemoSpecies(
        "Arachnida",
        "Saltivectus trigradus",
        60,
        varied(JUMPER, "abdomen", marks=tuple(band(t, 0.05, WHITE) for t in (0.2, 0.46, 0.72))),
    ),
    DemoSpecies("Arachnida", "Saltivectus rufipalpis", 30, varied(JUMPER, "palps", colour=ORANGE, length=0.26)),
)
NEVER_DRAWN: dict[str, tuple[str, ...]] = {  # on the region's list, but never photographed
    "Insecta": ("Ommatidius incertus", "Pixellia absens", "Nullicarabus expectatus"),
    "Arachnida": ("Saltivectus imaginarius", "Araneobyta deserta"),
}
