"""Photos decoded once into one memory-mapped file of pixels: later epochs and trainings read these, not JPEGs.

A photo is kept as decode() gives it, so what is learnt from does not change, unless its short side is longer than the
side asked for: then it is made smaller (anti-aliased), and the log says how many were.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.console import log, progress
from pipeline.edge.errors import UnreadableImage
from pipeline.edge.recipe import decode
from pipeline.files import Stamp, read_json, replacing, run_once, write_json

CHUNK = 64  # photos decoded at a time


class Row(NamedTuple):
    """Where a photo's pixels (height, width, 3) start in the file; or why there are none."""

    start: int
    width: int
    height: int
    reason: str


class Packed:
    """Reads photos by their place in the list that was packed; each process that uses it opens the files itself."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Row] = []
        self.pixels: NDArray[np.uint8] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "rows": [], "pixels": None}

    def photo(self, index: int) -> Image.Image:
        """The photo, upright RGB; raises UnreadableImage for one that could not be decoded."""
        if self.pixels is None:
            self.rows = [Row(*row) for row in read_json(_index(self.path), "index of the packed photos")]
            self.pixels = np.memmap(self.path, np.uint8, "r")
        row = self.rows[index]
        if row.reason:
            raise UnreadableImage(row.reason)
        end = row.start + 3 * row.width * row.height
        return Image.fromarray(self.pixels[row.start : end].reshape(row.height, row.width, 3))


def pack(path: Path, photos: Sequence[Path], known: dict[str, Any], decode_side: int, side: int) -> Packed:
    """Write the pixels to `path` and their places to a JSON file beside it, unless they stand there made from the same
    inputs. known: what stands for the photos' bytes. side: short side of the largest photos kept, px; 0 keeps all."""
    inputs = {**known, "decode_side": decode_side, "side": side}
    stamp = Stamp(path.with_suffix(".stamp.json"), inputs, [path, _index(path)])
    run_once(f"pack      {path.name}", stamp, False, lambda: _write(path, photos, decode_side, side))
    return Packed(path)


def _write(path: Path, photos: Sequence[Path], decode_side: int, side: int) -> None:
    rows: list[Row] = []
    start = smaller = 0
    with replacing(path) as temporary, temporary.open("wb") as file:
        for photo in progress(_decoded(photos, decode_side, side), len(photos), f"pack {path.name}"):
            if isinstance(photo, str):
                rows.append(Row(start, 0, 0, photo))
                continue
            image, shrunk = photo
            rows.append(Row(start, *image.size, ""))
            start, smaller = start + file.write(image.tobytes()), smaller + shrunk
        if not start:
            file.write(b"\0")  # an empty file cannot be mapped
    write_json(_index(path), rows)
    log.info(
        "pack      %s: %d photos decoded at a short side of %s px, %d of them made smaller (short side %d px)",
        path.name, len(photos), decode_side or "any", smaller, side,
    )  # fmt: skip


def _index(path: Path) -> Path:
    return path.with_suffix(".json")


def _decoded(photos: Sequence[Path], decode_side: int, side: int) -> Iterator[tuple[Image.Image, bool] | str]:
    one = partial(_one, decode_side=decode_side, side=side)
    with ThreadPoolExecutor() as pool:  # Pillow decodes without the interpreter's lock
        for start in range(0, len(photos), CHUNK):
            yield from pool.map(one, photos[start : start + CHUNK])


def _one(path: Path, decode_side: int, side: int) -> tuple[Image.Image, bool] | str:
    """The photo and whether it was made smaller; or why it cannot be read."""
    try:
        photo = decode(path, decode_side)
    except UnreadableImage as error:
        return str(error)
    short = min(photo.size)
    if not side or short <= side:
        return photo, False
    width, height = (max(1, round(length * side / short)) for length in photo.size)
    return photo.resize((width, height), Image.Resampling.BILINEAR), True
