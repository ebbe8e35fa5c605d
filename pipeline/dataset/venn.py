"""Venn diagrams of the photos' species and the region's list (matplotlib-venn)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib_venn import venn2

from pipeline.dataset.overlap import Overlap, group_title
from pipeline.dataset.plots import COLUMNS, save
from pipeline.style import GREEN, SLATE

SIDES = ("photos", "regional list")


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
    return [Patch(color=colour, alpha=0.55, label=name) for name, colour in zip(SIDES, (SLATE, GREEN), strict=True)]


def _circles(axes: Axes, overlap: Overlap, numbers: bool) -> None:
    axes.set_axis_off()
    if not any(overlap):
        axes.text(0.5, 0.5, "no species", transform=axes.transAxes, ha="center", va="center", color="0.5")
        return
    sizes = (overlap.only_photos, overlap.only_region, overlap.both)
    diagram = venn2(sizes, None, (SLATE, GREEN), alpha=0.55, ax=axes)
    for label, size in zip(("10", "01", "11"), sizes, strict=True):
        if text := diagram.get_label_by_id(label):
            text.set_text(f"{size:,}" if numbers and size else "")
    if not numbers:  # square limits: every panel keeps its place, so titles and texts stand in rows
        circles = list(zip(diagram.centers, diagram.radii, strict=True))
        left, right = min(c.x - r for c, r in circles), max(c.x + r for c, r in circles)
        half = 0.52 * (right - left)
        axes.set(xlim=((left + right) / 2 - half, (left + right) / 2 + half), ylim=(-half, half))
