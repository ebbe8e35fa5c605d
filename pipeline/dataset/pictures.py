"""The pictures of a data set, drawn in parallel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.console import progress
from pipeline.dataset import examples, plots, venn
from pipeline.dataset.composition import Composition
from pipeline.dataset.manifest import Manifest
from pipeline.dataset.names import short
from pipeline.dataset.overlap import Overlap, together
from pipeline.dataset.parallel import mapped
from pipeline.files import safe_name


@dataclass(frozen=True)
class Picture:
    """file: name in the pictures' folder; draw(*arguments, path) writes it, in whichever process."""

    file: str
    caption: str
    draw: Callable[..., None]
    arguments: tuple[Any, ...]


def pictures(
    manifest: Manifest, groups: Sequence[str], overlaps: Mapping[str, Overlap], per_species: int, source: Composition
) -> list[Picture]:
    """All pictures of a data set. groups: those of the configuration, also where they are empty; overlaps: per group,
    empty where there is no regional list; per_species: photos on the examples sheets, 0 for no sheets; source: photos per
    species before the match, empty where all of them matched."""
    counted = manifest.composition()
    composition = {group: counted.get(group, {}) for group in groups}
    found = [Picture("splits.png", "Photos per split", plots.splits, (manifest.rows[["group", "split", "ok"]],))]
    if overlaps:
        title = "Species with photos and on the regional list"
        found += [
            Picture("venn.png", f"{title}, all groups", venn.venn, (together(overlaps), title)),
            Picture("venn_groups.png", f"{title}, per group", venn.venn_groups, (dict(overlaps), title)),
        ]
    if len(groups) > 1:
        title = "All groups: cumulative share of photos"
        found.append(Picture("cumulative.png", title, plots.cumulative, (plots.merged(composition), title)))
    for name, inverse in (("cdf", False), ("ppf", True)):
        title = f"Photos per species ({name.upper()})"
        found.append(Picture(f"{name}.png", title, plots.distribution, (composition, inverse, title)))
    for group, counts in composition.items():
        found += _counted(counts, safe_name(group), short(group))
        found += _sheets(manifest, group, per_species)
    for group, counts in source.items():
        found += _counted(counts, f"source_{safe_name(group)}", f"{short(group)}, the whole source")
    return found


def _counted(counts: Mapping[str, int], file: str, whose: str) -> list[Picture]:
    kinds = (
        ("bar", plots.bars, f"{whose}: photos per species"),
        ("cumulative", plots.cumulative, f"{whose}: cumulative share of photos"),
    )
    return [Picture(f"{file}_{kind}.png", title, draw, (counts, title)) for kind, draw, title in kinds]


def _sheets(manifest: Manifest, group: str, per_species: int) -> list[Picture]:
    if not per_species:
        return []
    rows = manifest.rows[manifest.rows["group"] == group]
    species = examples.choose(rows, manifest.root, per_species, manifest.seed)
    pages = [species[k : k + examples.PER_SHEET] for k in range(0, len(species), examples.PER_SHEET)]
    found = []
    for number, page in enumerate(pages, 1):
        title = f"{short(group)}: examples, sheet {number} of {len(pages)} (species, photos in all)"
        file = f"{safe_name(group)}_examples_{number:03}.jpg"
        found.append(Picture(file, title, examples.sheet, (page, per_species, title)))
    return found


def draw(wanted: Sequence[Picture], folder: Path, workers: int = 0) -> None:
    """Draw them into `folder` by `workers` processes (0: every core); the files do not depend on the number."""
    tasks = [(picture, folder / picture.file) for picture in wanted]
    for _ in progress(mapped(_draw, tasks, workers, few=2, chunk=1), len(tasks), "plots"):
        pass


def _draw(task: tuple[Picture, Path]) -> None:
    picture, path = task
    picture.draw(*picture.arguments, path)
