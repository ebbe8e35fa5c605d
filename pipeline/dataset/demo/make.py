"""Make the embedded demo set: drawn photos of invented insects and spiders, long-tailed and fine-grained like a real region."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.dataset.demo.photo import draw_photo
from pipeline.dataset.demo.species import NEVER_DRAWN, SPECIES
from pipeline.dataset.parallel import mapped
from pipeline.errors import DataError
from pipeline.files import read_json, write_json

VERSION = 1  # raise whenever the drawing or the table changes: a folder holds photos of one version only
FEWEST = 3  # photos of a species in a scaled-down set


@dataclass(frozen=True)
class DemoSet:
    """Where a demo set lies, and how many photos it has: group -> species -> number."""

    photos: Path
    species_list: Path
    composition: dict[str, dict[str, int]]


class OtherDemoError(DataError, ValueError):
    """The folder holds a demo set that was made with other settings."""


def make_demo(root: Path, seed: int = 0, scale: float = 1.0, workers: int = 0) -> DemoSet:
    """Draw the demo set below `root`, or complete what an interrupted call began; `scale` multiplies every count.

    The same seed and scale give the same bytes, whatever the number of processes. A folder with a demo set of other
    settings is refused. workers: processes; 0: one per core.
    """
    counts = {species.name: max(FEWEST, round(species.photos * scale)) for species in SPECIES}
    composition = {group: {s.name: counts[s.name] for s in SPECIES if s.group == group} for group in NEVER_DRAWN}
    demo = DemoSet(root / "photos", root / "region_species.json", composition)
    # The plan is the marker under another name: it guards a half-made set, and being renamed is what ends the work.
    marker, plan = root / "demo.json", root / "demo.plan.json"
    wanted = {"seed": seed, "version": VERSION, "scale": scale, "counts": composition}
    for path in (marker, plan):
        if path.exists() and read_json(path, "description of a demo set") != wanted:
            raise OtherDemoError(
                f"{root} holds a demo set of another seed, scale or version; "
                f"delete the folder {root} or choose another one"
            )
    if marker.exists():
        return demo
    write_json(plan, wanted)
    missing = [
        (i, k)
        for i, species in enumerate(SPECIES)
        for k in range(counts[species.name])
        if not photo_path(demo.photos, i, k).exists()
    ]
    write_photos(demo.photos, seed, missing, workers)
    write_json(demo.species_list, region_species())
    plan.replace(marker)
    return demo


def region_species() -> dict[str, list[str]]:
    """The region's list: group -> names, most of the drawn species and some that were never drawn."""
    return {
        group: sorted([s.name for s in SPECIES if s.group == group and s.listed] + list(absent))
        for group, absent in NEVER_DRAWN.items()
    }


def photo_path(photos: Path, species: int, photo: int) -> Path:
    """Where photo number `photo` of species number `species` lies."""
    kind = SPECIES[species]
    return photos / kind.group / kind.name / f"{kind.name.lower().replace(' ', '_')}_{photo:04d}.jpg"


def photo_bytes(seed: int, species: int, photo: int) -> bytes:
    """A photo as JPEG; its random numbers depend on these three numbers only, not on what was drawn before."""
    rng = np.random.default_rng((seed, species, photo))
    buffer = io.BytesIO()
    draw_photo(SPECIES[species].look, rng).save(buffer, "JPEG", quality=int(rng.integers(70, 93)))
    return buffer.getvalue()


def write_photo(photos: Path, seed: int, number: tuple[int, int]) -> None:
    """Draw and save one photo, given as (species, photo); it has its name only when it is whole."""
    path = photo_path(photos, *number)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A fixed temporary name: what a killed run left behind is overwritten by the next, not left among the photos.
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(photo_bytes(seed, *number))
    os.replace(temporary, path)


def write_photos(photos: Path, seed: int, numbers: Sequence[tuple[int, int]], workers: int) -> None:
    """Draw and save many photos, in several processes where that is worth it."""
    for _ in mapped(partial(write_photo, photos, seed), numbers, workers, chunk=25):
        pass
