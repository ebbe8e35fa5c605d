"""Venn diagrams: which species the photos and the region's list have in common (matplotlib-venn)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib_venn import venn2

from pipeline.dataset.plots import COLUMNS, GREEN, save, short
from pipeline.dataset.sources.listing import ANY_GROUP

BLUE = "#46627f"
SIDES = ("photos", "regional list")


class Overlap(NamedTuple):
    """Numbers of species: only with photos, in both, only on the region's list."""

    only_photos: int
    both: int
    only_region: int

    @property
    def told(self) -> list[str]:
        """Lines for a text box: totals, what is shared, what is not."""
        photos, region = self.only_photos + self.both, self.only_region + self.both
        return [
            f"with photos    {photos:>7,}",
            f"on the list    {region:>7,}",
            f"in common      {self.both:>7,}  ({self.both / max(photos, 1):.1%} of photos, "
            f"{self.both / max(region, 1):.1%} of list)",
            f"photos only    {self.only_photos:>7,}",
            f"list only      {self.only_region:>7,}",
        ]


def overlaps(
    matched: Mapping[str, Collection[str]],
    only_photos: Mapping[str, Collection[str]],
    only_region: Mapping[str, Collection[str]],
) -> dict[str, Overlap]:
    """Sizes per group, of the match's three lists."""
    groups = sorted({*matched, *only_photos, *only_region})
    lists = (only_photos, matched, only_region)
    return {group: Overlap(*(len(names.get(group, ())) for names in lists)) for group in groups}


def group_title(group: str) -> str:
    """A group as people read it, also that of the names of a list without groups."""
    return "(list without groups)" if group == ANY_GROUP else short(group)


def together(parts: Mapping[str, Overlap]) -> Overlap:
    """The sum over groups: a name counts once in each group that has it."""
    return Overlap(*(sum(sizes) for sizes in zip(*parts.values(), strict=True))) if parts else Overlap(0, 0, 0)


def venn(overlap: Overlap, title: str, path: Path) -> None:
    """One diagram with its numbers inside and a text box of totals below."""
    figure, axes = plt.subplots(figsize=(7, 6))
    _circles(axes, overlap, numbers=True)
    axes.set_title(title)
    axes.legend(handles=_sides(), loc="lower center", bbox_to_anchor=(0.5, -0.06), ncols=2, frameon=False)
    box = {"boxstyle": "round,pad=0.6", "facecolor": "0.96", "edgecolor": "0.8"}
    text = "\n".join(overlap.told)
    style = {"ha": "center", "va": "top", "ma": "left", "family": "monospace", "fontsize": 9, "bbox": box}
    axes.text(0.5, -0.1, text, transform=axes.transAxes, **style)
    save(figure, path)


def venn_groups(parts: Mapping[str, Overlap], title: str, path: Path) -> None:
    """One small diagram per group, its numbers below it: inside, they would not fit where the overlap is small."""
    rows = max(1, -(-len(parts) // COLUMNS))
    columns = min(max(len(parts), 1), COLUMNS)
    figure, grid = plt.subplots(
        rows, columns, figsize=(3 * columns, 2.9 * rows + 0.6), squeeze=False, layout="constrained"
    )
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, (group, overlap) in zip(grid.flat, parts.items(), strict=False):
        _circles(axes, overlap, numbers=False)
        axes.set_title(group_title(group), fontsize=10)
        text = f"photos only {overlap.only_photos:,}\nboth {overlap.both:,}\nlist only {overlap.only_region:,}"
        axes.text(0.5, -0.02, text, transform=axes.transAxes, ha="center", va="top", fontsize=8)
    figure.suptitle(title)
    figure.legend(handles=_sides(), loc="outside lower center", ncols=2, frameon=False)
    save(figure, path)


def _sides() -> list[Patch]:
    return [Patch(color=colour, alpha=0.55, label=name) for name, colour in zip(SIDES, (BLUE, GREEN), strict=True)]


def _circles(axes: Axes, overlap: Overlap, numbers: bool) -> None:
    axes.set_axis_off()
    if not any(overlap):
        axes.text(0.5, 0.5, "no species", transform=axes.transAxes, ha="center", va="center", color="0.5")
        return
    sizes = (overlap.only_photos, overlap.only_region, overlap.both)
    diagram = venn2(sizes, None, (BLUE, GREEN), alpha=0.55, ax=axes)
    for label, size in zip(("10", "01", "11"), sizes, strict=True):
        if text := diagram.get_label_by_id(label):
            text.set_text(f"{size:,}" if numbers and size else "")
    if not numbers:  # square limits: every panel keeps its place, so titles and texts stand in rows
        circles = list(zip(diagram.centers, diagram.radii, strict=True))
        left, right = min(c.x - r for c, r in circles), max(c.x + r for c, r in circles)
        half = 0.52 * (right - left)
        axes.set(xlim=((left + right) / 2 - half, (left + right) / 2 + half), ylim=(-half, half))
