#!/usr/bin/env python3
"""Measure the data set builder beside its predecessor, and its parts; see dataset.md for the commands.

tree      a tree of the real iNaturalist 2017 shape, one byte per photo, from its composition
peer      the same work by dataset-builder-inat (its own Python) and by this project, in turns
verify    the verification beside a bare loop of Pillow in as many processes
look      processor time per photo of both, in this process, of photos as they are or brought to a size
lookalikes   grouping of 100,000 photos
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
GROUPS = ["Aves", "Insecta"]
PEER = """
import sys
from dataset_builder import run_analyze_dataset, run_copy_matched_species, run_cross_reference, run_manifest_generator
src, dst, out, listed = sys.argv[1:]
groups = ["Aves", "Insecta"]
run_analyze_dataset(src, out, "inat", groups)
run_analyze_dataset(listed, out, "region", groups)
run_cross_reference(f"{out}/matched.json", f"{out}/inat_species.json", f"{out}/region_species.json", "a", "b", groups)
run_copy_matched_species(src, dst, f"{out}/matched.json", groups)
run_analyze_dataset(dst, out, "regional", groups)
run_manifest_generator(dst, out, f"{out}/regional_composition.json", 0.8, 42, groups, 0.5)
"""
OURS = """
import sys
sys.path.insert(0, {root!r})
from pipeline.config import Config
from pipeline.dataset.stages import run_stages
src, dst, out, listed, mode = sys.argv[1:]
paths = dict(src_dataset=src, dst_dataset=dst, output_dir=out, web_crawl_output_json=listed)
dataset = dict(verify=False, copy_mode=mode)
run_stages(Config.model_validate(dict(experiment="x", paths=paths, dataset=dataset)), until="manifest")
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["tree", "peer", "verify", "look", "lookalikes"])
    parser.add_argument("--composition", type=Path, help="tree: JSON {group: {species: n}}")
    parser.add_argument("--list", type=Path, help="peer: JSON {group: [species]}, the region's check list")
    parser.add_argument("--photos", type=Path, help="the tree; verify: a folder of photos")
    parser.add_argument(
        "--peer-python", type=Path, help="peer: the Python in whose environment dataset-builder-inat is"
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2, help="verify: processes")
    parser.add_argument("--side", type=int, help="look: long side that the photos are brought to first, px")
    parser.add_argument("--number", type=int, default=300, help="look: photos, evenly out of the folder")
    parser.add_argument(
        "--out", type=Path, help="JSON to which the figures are added, in the place of earlier ones of the kind"
    )
    given = parser.parse_args()
    work: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
        "tree": tree, "peer": peer, "verify": verify, "look": look, "lookalikes": lookalikes,
    }  # fmt: skip
    found = work[given.what](given)
    print(json.dumps(found, indent=2))
    if given.out:
        known = json.loads(given.out.read_text()) if given.out.is_file() else {}
        kind = f"look_{given.side or given.photos.name}" if given.what == "look" else given.what
        given.out.write_text(json.dumps(known | {kind: found}, indent=2) + "\n")
    return 0


def tree(given: argparse.Namespace) -> dict[str, Any]:
    composition = json.loads(given.composition.read_text())
    made = 0
    for group, counts in composition.items():
        for species, n in counts.items():
            folder = given.photos / group / species
            folder.mkdir(parents=True, exist_ok=True)
            for i in range(n):
                with open(folder / f"{hashlib.md5(f'{species}{i}'.encode()).hexdigest()}.jpg", "wb") as file:
                    file.write(b"x")
                made += 1
    return {"species": sum(map(len, composition.values())), "photos": made}


def peer(given: argparse.Namespace) -> dict[str, Any]:
    """Seconds of the same work in turns, each into an empty folder on the same disk, in a process of its own."""
    kinds = {
        "peer_copy": [str(given.peer_python), "-c", PEER],
        "ours_copy": [sys.executable, "-c", OURS.format(root=str(ROOT)), "copy"],
        "ours_hardlink": [sys.executable, "-c", OURS.format(root=str(ROOT)), "hardlink"],
    }
    found: dict[str, list[tuple[float, float, int]]] = {kind: [] for kind in kinds}
    for _ in range(given.runs):
        for kind, (python, flag, code, *mode) in kinds.items():
            folder = tempfile.mkdtemp(prefix="regional_", dir=given.photos.parent)  # removed by hand: that takes long
            paths = [str(given.photos), f"{folder}/regional", f"{folder}/out", str(given.list)]
            Path(f"{folder}/regional").mkdir()
            found[kind].append(_timed([python, flag, code, *paths, *mode]))
            print(kind, found[kind][-1], flush=True)
    seconds = {kind: statistics.median(run[0] for run in runs) for kind, runs in found.items()}
    shares = {
        mode: [ours[0] / peers[0] for ours, peers in zip(found[f"ours_{mode}"], found["peer_copy"], strict=True)]
        for mode in ("hardlink", "copy")
    }
    return {
        "runs": {
            kind: [{"s": s, "cpu_s": cpu, "max_rss_mb": rss} for s, cpu, rss in runs] for kind, runs in found.items()
        },
        "median_s": seconds,
        "shares": shares,
        "hardlink_share": seconds["ours_hardlink"] / seconds["peer_copy"],
        "copy_share": seconds["ours_copy"] / seconds["peer_copy"],
    }


def _timed(command: list[str]) -> tuple[float, float, int]:
    """Wall seconds, processor seconds and MB of memory at most, of a command."""
    with tempfile.TemporaryFile() as told:  # a pipe that nobody reads stops a command that says much
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=told)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        if status:
            told.seek(0)
            raise SystemExit(told.read().decode())
    return round(seconds, 2), round(used.ru_utime + used.ru_stime, 2), used.ru_maxrss // 1024


def verify(given: argparse.Namespace) -> dict[str, Any]:
    """Photos per second of the verification and of a bare loop, in turns."""
    sys.path.insert(0, str(ROOT))
    from pipeline.dataset.formats.base import Photo
    from pipeline.dataset.verify import verify as look

    paths = sorted(str(path.relative_to(given.photos)) for path in given.photos.rglob("*.jpg"))
    photos = [Photo(path, "g", "s") for path in paths]
    rates: dict[str, list[float]] = {"bare": [], "verify": []}
    for _ in range(given.runs):
        start = time.perf_counter()
        with ProcessPoolExecutor(given.workers) as pool:
            list(pool.map(bare, [str(given.photos / path) for path in paths], chunksize=64))
        rates["bare"].append(len(paths) / (time.perf_counter() - start))
        start = time.perf_counter()
        table = look(given.photos, photos, given.workers)
        rates["verify"].append(len(paths) / (time.perf_counter() - start))
    shares = [ours / plain for ours, plain in zip(rates["verify"], rates["bare"], strict=True)]
    medians = {kind: statistics.median(values) for kind, values in rates.items()}
    return {"photos": len(paths), "bad": int((~table["ok"]).sum()), "per_s": rates, "median_per_s": medians} | {
        "shares": shares, "share": statistics.median(shares),
    }  # fmt: skip


def look(given: argparse.Namespace) -> dict[str, Any]:
    """Fewest microseconds of processor time per photo over the runs, in turns; hashing and thumbnail also alone."""
    sys.path.insert(0, str(ROOT))
    from PIL import Image

    from pipeline.dataset.duplicates import thumbnail
    from pipeline.dataset.verify import look_at
    from pipeline.edge.recipe import decode

    found = sorted(given.photos.rglob("*.jpg"))
    paths = found[:: max(1, len(found) // given.number)][: given.number]
    with tempfile.TemporaryDirectory() as scratch:
        if given.side:
            for i, path in enumerate(paths):
                with Image.open(path) as image:
                    scale = given.side / max(image.size)
                    sized = image.convert("RGB").resize((round(image.width * scale), round(image.height * scale)))
                paths[i] = Path(scratch) / f"{i}.jpg"
                sized.save(paths[i], quality=90)
        pictures, data = [decode(path) for path in paths[:50]], [path.read_bytes() for path in paths]
        works: dict[str, tuple[Callable[[Any], Any], list[Any]]] = {
            "bare": (bare, list(map(str, paths))), "verify": (look_at, list(map(str, paths))),
            "thumbnail": (thumbnail, pictures), "sha256": (lambda one: hashlib.sha256(one).hexdigest(), data),
        }  # fmt: skip
        fewest: dict[str, float] = {}
        for _ in range(given.runs):
            for name, (work, items) in works.items():
                start = time.process_time()
                for item in items:
                    work(item)
                spent = 1e6 * (time.process_time() - start) / len(items)
                fewest[name] = round(min(spent, fewest.get(name, spent)), 1)
    return {"photos": len(paths), "side": given.side, "us": fewest, "share": fewest["bare"] / fewest["verify"]}


def bare(path: str) -> tuple[int, int]:
    """Decode a photo, nothing else."""
    from PIL import Image

    with Image.open(path) as image:
        return image.convert("RGB").size


def lookalikes(given: argparse.Namespace) -> dict[str, Any]:
    """Seconds to group 100,000 thumbnails: 90,000 smooth random pictures, 10,000 of them twice, one turned."""
    sys.path.insert(0, str(ROOT))
    import numpy as np
    from scipy.ndimage import zoom

    from pipeline.dataset.duplicates import duplicate_groups

    rng = np.random.default_rng(0)
    coarse = rng.random((90_000, 5, 5), dtype=np.float32)
    pictures = (zoom(coarse, (1, 16 / 5, 16 / 5), order=1) * 255).astype(np.uint8)
    noise = rng.normal(0, 2, (10_000, 16, 16))
    twins = np.rot90(np.clip(pictures[:10_000] + noise, 0, 255).astype(np.uint8), axes=(1, 2))
    start, used = time.perf_counter(), time.process_time()
    groups = duplicate_groups(np.concatenate([pictures, twins]))
    seconds, used = time.perf_counter() - start, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    found = int((groups[:10_000] == groups[90_000:]).sum())
    return {
        "photos": 100_000,
        "s": round(seconds, 1),
        "cpu_s": round(used, 1),
        "max_rss_mb": peak,
        "twins_found": found,
    } | {"groups": int(groups.max()) + 1}


if __name__ == "__main__":
    sys.exit(main())
