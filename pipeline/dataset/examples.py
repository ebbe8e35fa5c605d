"""Examples sheets: a few photos of each species, as the models' decoder sees them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from pipeline.dataset.names import short
from pipeline.edge.errors import UnreadableImage
from pipeline.edge.recipe import Recipe, decode, preprocess
from pipeline.files import replacing

SIDE, GAP, LINE = 96, 4, 20  # px: a thumbnail, the space between, a line of text
ACROSS = 12  # thumbnails in a row
PER_SHEET = 24  # species
RECIPE = Recipe(size=SIDE, crop=1.0)
FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


class Examples(NamedTuple):
    """One species: its name, how many photos it has, and the chosen ones."""

    species: str
    photos: int
    chosen: tuple[Path, ...]


def choose(rows: pd.DataFrame, root: Path, per_species: int, seed: int) -> list[Examples]:
    """Species of a manifest's rows, most photos first, each with up to `per_species` train photos drawn by seed."""
    good = rows[rows["split"] != ""]
    counts = good["species"].value_counts()
    train = good[good["split"] == "train"]
    draw = [hashlib.sha256(f"{seed}:{path}".encode()).hexdigest() for path in train["image_path"]]
    drawn = train.assign(draw=draw).sort_values("draw").groupby("species")["image_path"]
    chosen = {str(species): tuple(root / path for path in paths.head(per_species)) for species, paths in drawn}
    ranked = sorted(((str(species), int(n)) for species, n in counts.items()), key=lambda item: (-item[1], item[0]))
    return [Examples(species, n, chosen.get(species, ())) for species, n in ranked]


def sheet(examples: Sequence[Examples], per_species: int, title: str, path: Path) -> None:
    """A JPEG with a block per species: its name above its photos. A photo that cannot be read is a grey tile."""
    per_species = min(per_species, ACROSS)
    columns = max(1, ACROSS // per_species)
    width, height = per_species * (SIDE + GAP) + 2 * GAP, SIDE + LINE + 2 * GAP
    lines = -(-len(examples) // columns)
    page = Image.new("RGB", (columns * width + GAP, 2 * LINE + lines * height + GAP), "white")
    pen = ImageDraw.Draw(page)
    pen.text((2 * GAP, GAP), title, "black", font(16))
    small = font(12)
    for k, one in enumerate(examples):
        left, top = k % columns * width + 2 * GAP, 2 * LINE + k // columns * height
        pen.text((left, top), fitting(one.species, f"  {one.photos:,}", width - 4 * GAP, small), "black", small)
        for i, photo in enumerate(one.chosen):
            page.paste(_tile(photo, small), (left + i * (SIDE + GAP), top + LINE))
    with replacing(path) as temporary:
        page.save(temporary, "JPEG", quality=85)


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """matplotlib's bundled font, so that accents look the same everywhere; without it, Pillow's."""
    try:
        return ImageFont.truetype(str(FONT), size)
    except OSError:
        return ImageFont.load_default(size)


def fitting(name: str, tail: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The name, shortened until it and the tail fit into `width` px."""
    name = short(name)
    whole = name
    while name and font.getlength((name if name == whole else name + "…") + tail) > width:
        name = name[:-1]
    return (name if name == whole else name + "…") + tail


def _tile(photo: Path, small: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> Image.Image:
    try:
        return Image.fromarray(preprocess(decode(photo, RECIPE.decode_side), RECIPE))
    except UnreadableImage:
        tile = Image.new("RGB", (SIDE, SIDE), "lightgrey")
        ImageDraw.Draw(tile).text((GAP, SIDE // 3), "unreadable", "black", small)
        return tile
