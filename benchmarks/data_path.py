#!/usr/bin/env python3
"""What a photo costs a data worker: read as JPEG or from the packed store, colours changed by the worker or by the device."""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import numpy as np
import torch

from benchmarks.training import some_photos
from pipeline.edge.recipe import Recipe
from pipeline.files import write_json
from pipeline.models.checkpoint import versions
from pipeline.training.batched import varied
from pipeline.training.data import Photos, collate
from pipeline.training.packed import pack

RESULTS = Path(__file__).parent / "results" / "data_path.json"
STRENGTHS = ("light", "medium", "strong", "inception", "inat", "randaugment")
BATCH = 64


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("photos", type=Path, help="folder with <species>/<photo>")
    arguments.add_argument("--size", type=int, default=160)
    arguments.add_argument("--number", type=int, default=512, help="photos (default 512)")
    arguments.add_argument("--repeats", type=int, default=5, help="the median counts (default 5)")
    given = arguments.parse_args()
    paths = some_photos(given)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(1)
    recipe, labels = Recipe(size=given.size), np.zeros(len(paths), np.int64)
    result: dict[str, Any] = {"versions": versions(), "cores": os.cpu_count(), "photos": len(paths), "size": given.size}
    with tempfile.TemporaryDirectory() as folder:
        packed = pack(Path(folder) / "photos.arrow", paths, {}, recipe.decode_side, 0)
        for strength in STRENGTHS:
            row = {}
            for name, store, batched in (
                ("jpeg", None, False), ("packed", packed, False), ("packed, device", packed, True),
            ):  # fmt: skip
                photos = Photos(paths, labels, recipe, strength, 0, packed=store, batched=batched)
                row[name] = per_photo(
                    lambda photos=photos: [photos[0, i, 0] for i in range(len(paths))], given, len(paths)
                )
            row["device_batch"] = on_device(photos, device, given.repeats)
            result[strength] = row
            print(strength, row, flush=True)
    result["device"] = torch.cuda.get_device_name() if device.type == "cuda" else "cpu, one thread"
    write_json(RESULTS, result)
    print(table(result))


def per_photo(work: Callable[[], Any], given: argparse.Namespace, photos: int) -> float:
    """CPU milliseconds of this process per photo, median of several rounds after one that does not count."""
    times = []
    for _ in range(given.repeats + 1):
        start = time.process_time()
        work()
        times.append(1000 * (time.process_time() - start) / photos)
    return round(statistics.median(times[1:]), 3)


def on_device(photos: Photos, device: torch.device, repeats: int) -> float | None:
    """Milliseconds that the device takes for the rest of a batch."""
    if not photos.steps:
        return None
    batch = collate([photos[0, i, 0] for i in range(BATCH)])
    shown = batch.photos.to(device)
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        varied(shown, batch.drawn, photos.steps)
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - start))
    return round(statistics.median(times[1:]), 2)


def table(result: dict[str, Any]) -> str:
    """Markdown: milliseconds per photo, and photos per second of one worker where the device does the rest."""
    lines = [
        "| augment | JPEG | packed | packed, rest on the device | photos/s of a worker then | device, ms per batch of 64 |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for strength in STRENGTHS:
        row = result[strength]
        rest = row["device_batch"]
        lines.append(
            f"| {strength} | {row['jpeg']:.2f} | {row['packed']:.2f} | {row['packed, device']:.2f} "
            f"| {1000 / row['packed, device']:.0f} | {'' if rest is None else f'{rest:.1f}'} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
