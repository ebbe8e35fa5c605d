"""Photos decoded once into one memory-mapped Arrow file; later epochs and trainings read these pixels instead of JPEGs.

A photo is kept as decode() gives it, so what is learnt from does not change, unless its short side is longer than the
side asked for: then it is made smaller (anti-aliased), and the log says how many were.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from pipeline.console import log, progress
from pipeline.edge.errors import UnreadableImage
from pipeline.edge.recipe import decode
from pipeline.files import Stamp, alone, replacing, run_once

CHUNK = 64  # photos decoded at a time, and in a record batch
# a row is a photo: RGB pixels (height, width, 3), or none and the reason
ROWS = pa.schema({"pixels": pa.large_binary(), "width": pa.int32(), "height": pa.int32(), "reason": pa.string()})


class Packed:
    """Reads photos by their index in the packed list; each process opens the file itself."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: tuple[Any, ...] = ()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "columns": ()}

    def photo(self, index: int) -> Image.Image:
        """The photo, upright RGB; raises UnreadableImage for one that could not be decoded."""
        if not self.columns:
            one_thread = pa.ipc.IpcReadOptions(use_threads=False)  # data workers are forked
            table = pa.ipc.open_file(pa.memory_map(str(self.path)), options=one_thread).read_all()
            self.columns = tuple(table.columns)
        pixels, width, height, reason = (column[index] for column in self.columns)
        if reason.is_valid:
            raise UnreadableImage(reason.as_py())
        flat = np.frombuffer(pixels.as_buffer(), np.uint8)
        return Image.fromarray(flat.reshape(height.as_py(), width.as_py(), 3))


def pack(path: Path, photos: Sequence[Path], known: dict[str, Any], decode_side: int, side: int) -> Packed:
    """Write the pixels to `path`, unless they exist there from the same inputs.

    known: what stands for the photos' bytes. side: short side of the largest photos kept, px; 0 keeps all.
    """
    inputs = {**known, "decode_side": decode_side, "side": side}
    stamp = Stamp(path.with_suffix(".stamp.json"), inputs, [path])
    run_once(f"pack      {path.name}", stamp, False, lambda: _write(path, photos, decode_side, side))
    return Packed(path)


def remove_others(place: Path) -> None:
    """Remove the siblings of the folder `place`: photos of former manifests, which are no longer read."""
    with alone(place.parent.with_suffix(".lock")):  # members of a sweep do so at the same time
        for other in place.parent.glob("*"):
            if other != place:
                log.info("pack      removing the photos of a former manifest: %s", other)
                shutil.rmtree(other) if other.is_dir() else other.unlink()


def _write(path: Path, photos: Sequence[Path], decode_side: int, side: int) -> None:
    smaller = 0
    shown = progress(_decoded(photos, decode_side, side), -(-len(photos) // CHUNK), f"pack {path.name}")
    with replacing(path) as temporary, pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, ROWS) as writer:
        for found in shown:
            rows = [_row(photo) for photo in found]
            writer.write_batch(pa.RecordBatch.from_pylist(rows, ROWS))
            smaller += sum(not isinstance(photo, str) and photo[1] for photo in found)
    log.info(
        "pack      %s: %d photos decoded at a short side of %s px, %d of them made smaller (short side %d px)",
        path.name, len(photos), decode_side or "any", smaller, side,
    )  # fmt: skip


def _row(photo: tuple[Image.Image, bool] | str) -> dict[str, Any]:
    if isinstance(photo, str):
        return {"reason": photo}
    image = photo[0]
    return {"pixels": image.tobytes(), "width": image.width, "height": image.height}


def _decoded(photos: Sequence[Path], decode_side: int, side: int) -> Iterator[list[tuple[Image.Image, bool] | str]]:
    one = partial(_one, decode_side=decode_side, side=side)
    with ThreadPoolExecutor() as pool:  # Pillow decodes without the interpreter's lock
        for start in range(0, len(photos), CHUNK):
            yield list(pool.map(one, photos[start : start + CHUNK]))


def _one(path: Path, decode_side: int, side: int) -> tuple[Image.Image, bool] | str:
    """The photo and whether it was reduced; or the reason why it is unreadable."""
    try:
        photo = decode(path, decode_side)
    except UnreadableImage as error:
        return str(error)
    short = min(photo.size)
    if not side or short <= side:
        return photo, False
    width, height = (max(1, round(length * side / short)) for length in photo.size)
    return photo.resize((width, height), Image.Resampling.BILINEAR), True
