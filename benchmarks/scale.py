#!/usr/bin/env python3
"""Bulk prediction: processes and Ray nodes against a plain loop, a node lost, a million rows, and what a photo costs.

    python benchmarks/scale.py FOLDER --config configs/haute_garonne_insecta.yaml --work SCRATCH

FOLDER: photos; the configuration's experiment must have a bundle (run.py). --measure: some of loop, ray, rows, cost, cascade.
Figures are added to results/scale.json. SCRATCH takes the answers, and for `rows` a million names of a thousand drawn photos
and a toy model that answers the nearest colour, since that measure is of memory and not of a network.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from toy import COLOURS, cache_colours, write_cascade, write_experiment  # noqa: E402

from pipeline.bulk.listing import write_listing  # noqa: E402
from pipeline.config import load_config  # noqa: E402
from pipeline.edge.cascade import Answer, load_cascade  # noqa: E402
from pipeline.edge.recipe import decode  # noqa: E402
from pipeline.edge.results import key  # noqa: E402
from pipeline.edge.sources import find  # noqa: E402
from pipeline.files import read_json, write_json  # noqa: E402

RESULT = ROOT / "benchmarks" / "results" / "scale.json"
TIMES = ("decode_ms", "preprocess_ms", "infer_ms")
Row = dict[str, Any]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path, metavar="FOLDER")
    arguments.add_argument("--config", type=Path, required=True)
    arguments.add_argument("--set", action="append", default=[], dest="overrides", metavar="SECTION.KEY=VALUE")
    arguments.add_argument("--work", type=Path, required=True)
    arguments.add_argument("--photos", type=int, default=0, help="take so many photos of FOLDER (default: all)")
    arguments.add_argument("--names", type=int, default=1_000_000, help="of rows (default 1,000,000)")
    arguments.add_argument("--measure", nargs="+", choices=MEASURES, default=list(MEASURES))
    given = arguments.parse_args()
    shutil.rmtree(given.work, ignore_errors=True)
    given.work.mkdir(parents=True)
    for name in given.measure:
        before = os.getloadavg()[0]
        found = MEASURES[name](given)
        found |= {"load_before": round(before, 1), "load_after": round(os.getloadavg()[0], 1), "cores": os.cpu_count()}
        print(json.dumps({name: found}, indent=2))
        write_json(RESULT, {**(read_json(RESULT, "figures") if RESULT.exists() else {}), name: found})


def timed(command: list[str]) -> Row:
    """Seconds of a command by the clock, and of the processor in it and its children; what predict.py says of its rate."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run([sys.executable, *command], cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False)
    seconds, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 3):
        raise SystemExit(done.stderr)
    rate = re.search(r"photos looked at, ([\d.]+) a second", done.stderr)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2), "a_second": float(rate[1]) if rate else None}


def listed(given: argparse.Namespace) -> Path:
    """The photos as a list file."""
    names = [str(path) for path in find([str(given.folder)])]
    chosen = names[:: max(1, len(names) // given.photos)][: given.photos] if given.photos else names
    target = given.work / "photos.txt"
    target.write_text("\n".join(chosen) + "\n", encoding="utf-8")
    return target


def predict(given: argparse.Namespace, photos: Path, out: str, *more: str) -> list[str]:
    """The command, without its interpreter."""
    sets = [word for one in given.overrides for word in ("--set", one)]
    place = given.work / out
    return ["predict.py", "--config", str(given.config), *sets, "--input", str(photos), "--out", str(place), *more]


def rows(out: Path) -> dict[str, Row]:
    """Answers by path, without times; a path that comes twice is an error."""
    found = pq.read_table(out / "answers", columns=["path", "status", "failures", "species", "score", "stage", "topk"])
    table = found.to_pylist()
    for row in table:
        row["topk"] = [[one["species"], one["score"]] for one in row["topk"]]
    assert len({row["path"] for row in table}) == len(table)
    return {row["path"]: row for row in table}


def loop(given: argparse.Namespace) -> Row:
    """classify.py of the bundle, one photo after the other, against one and two processes."""
    photos, config = listed(given), load_config(given.config, given.overrides)
    plain = given.work / "plain.jsonl"
    classify = [str(config.output / "bundle" / "classify.py"), "--list", str(photos), "--threads", "1"]
    result: Row = {"plain_loop": timed([*classify, "--out", str(plain)])}
    for n in (2, 1):
        result[f"workers_{n}"] = timed(predict(given, photos, f"local{n}", "--workers", str(n)))
    lines = map(json.loads, plain.read_text(encoding="utf-8").splitlines())
    known = {key(row["path"]): {name: row[name] for name in row if name not in TIMES} for row in lines}
    result |= {"photos": len(known), "identical": rows(given.work / "local2") == known == rows(given.work / "local1")}
    result |= sizes(given.work / "local2", len(known))
    result["speed_up"] = round(result["plain_loop"]["seconds"] / result["workers_2"]["seconds"], 3)
    return result


def sizes(out: Path, photos: int) -> Row:
    """Bytes per photo of the answers and of the list of photos."""
    answers = sum(file.stat().st_size for file in (out / "answers").iterdir())
    listing = (out / "photos.parquet").stat().st_size
    return {"bytes_per_row": round(answers / photos, 1), "bytes_per_name": round(listing / photos, 1)}


def ray(given: argparse.Namespace) -> Row:
    """Two Ray nodes of one core against two processes; then again, and one node is killed when half of the parts are there."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    photos = listed(given)
    size = ["--part-size", str(max(1, min(1000, len(photos.read_text().splitlines()) // 16)))]
    result: Row = {"two_processes": timed(predict(given, photos, "local", "--workers", "2", *size))}
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = nodes.add_node(num_cpus=1)
    there = ["--engine", "ray", "--address", nodes.address, *size]
    result["two_nodes"] = timed(predict(given, photos, "nodes", *there))
    parts = len(list((given.work / "local" / "answers").iterdir()))
    when: list[int] = []

    def kill() -> None:
        while (n := len(list((given.work / "killed" / "answers").glob("part-*")))) < parts // 2:
            time.sleep(0.05)
        nodes.remove_node(second, allow_graceful=False)
        when.append(n)

    watching = threading.Thread(target=kill)
    watching.start()
    result["one_node_killed"] = timed(predict(given, photos, "killed", *there)) | {"parts": parts}
    watching.join()
    nodes.shutdown()
    known = rows(given.work / "local")
    result["one_node_killed"]["parts_before_the_kill"] = when[0]
    result |= {"photos": len(known), "identical": rows(given.work / "nodes") == known}
    result["all_rows_once_after_the_kill"] = rows(given.work / "killed") == known
    result["share_of_local_rate"] = round(result["two_nodes"]["a_second"] / result["two_processes"]["a_second"], 3)
    return result


def many(given: argparse.Namespace) -> Row:
    """Memory of the process that hands out and of its workers while a million rows are made."""
    experiment = write_experiment(given.work / "toy")
    write_cascade(
        experiment.root / "output" / "toy" / "bundle",
        [("cache", cache_colours("Apis mellifera"), 0.3), ("main", COLOURS, 0)],
    )
    drawn, rng = given.work / "drawn", np.random.default_rng(0)
    drawn.mkdir()
    for i in range(1000):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(drawn / f"{i:03}.jpg")
    with (given.work / "names.txt").open("w") as file:
        for k in range(-(-given.names // 1000)):
            (link := given.work / f"copy_{k:05}").symlink_to(drawn)
            file.writelines(f"{link}/{i:03}.jpg\n" for i in range(min(1000, given.names - 1000 * k)))
    given.config, given.overrides = experiment.yaml, []
    command = predict(given, given.work / "names.txt", "many", "--workers", "2")
    start, cpu, samples = time.monotonic(), 0.0, []
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT)
    answers, parts = given.work / "many" / "answers", -(-given.names // 1000)
    while process.poll() is None:
        done = sum(1 for _ in answers.glob("part-*")) if answers.is_dir() else 0
        samples.append((done / parts, *_memory(process.pid)))
        cpu = max(cpu, _processor(process.pid))
        time.sleep(1)
    table = np.array([sample for sample in samples if sample[0] > 0 and sample[2]])
    marks = {f"{share:.0%}": table[np.abs(table[:, 0] - share).argmin()] for share in (0.05, 0.25, 0.5, 0.75, 0.99)}
    return {
        "rows": sum(pq.read_metadata(file).num_rows for file in answers.iterdir()),
        "seconds": round(time.monotonic() - start, 1),
        "exit_code": process.returncode,
        "main_cpu_seconds": cpu,
        "rss_mb": {name: {"main": round(row[1]), "largest_worker": round(row[2])} for name, row in marks.items()},
        "peak_rss_mb": {
            "main": round(max(sample[1] for sample in samples)),
            "largest_worker": round(table[:, 2].max()),
        },
        **sizes(given.work / "many", given.names),
    }


def _memory(pid: int) -> tuple[float, float]:
    """Resident MB of a process, and of its largest child."""
    children = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout.split()
    return _resident(pid), max((_resident(int(child)) for child in children), default=0.0)


def _processor(pid: int) -> float:
    """Processor seconds of a process, without its children."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # ended meanwhile
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident(pid: int) -> float:
    try:
        words = Path(f"/proc/{pid}/status").read_text().split()
    except OSError:  # ended meanwhile
        return 0.0
    return int(words[words.index("VmRSS:") + 1]) / 1024 if "VmRSS:" in words else 0.0


def cost(given: argparse.Namespace) -> Row:
    """Processor time of listing a million names, and of decoding a photo as it is and enlarged."""
    names = [f"/photos/{i * 7919 % given.names:09}/medium.jpg" for i in range(given.names)]
    result: Row = {"names": given.names, "sort_cpu_seconds": _cpu(lambda: write_listing(names, given.work / "l", 1000))}
    files = [str(path) for path in find([str(given.folder)])]
    result["folder"] = {
        "photos": len(files),
        "listing_cpu_seconds": _cpu(lambda: sum(1 for _ in find([str(given.folder)]))),
    }
    sample = [Path(files[i]) for i in np.random.default_rng(0).integers(0, len(files), 200)]
    result["decode"] = {"as it is": _decoding(sample)}
    for side in (500, 2048):
        (folder := given.work / f"{side}px").mkdir()
        result["decode"][f"{side} px"] = _decoding(list(_enlarged(sample, folder, side)))
    return result


def cascade(given: argparse.Namespace) -> Row:
    """Processor time of the whole cascade, from the file to the answer."""
    files = [str(path) for path in find([str(given.folder)])]
    sample = [Path(files[i]) for i in np.random.default_rng(0).integers(0, len(files), 400)]
    bundle = load_cascade(load_config(given.config, given.overrides).output / "bundle")
    bundle.classify(sample[0])  # the first call takes longer
    answers: list[Answer] = []
    cpu = _cpu(lambda: answers.extend(bundle.classify(photo) for photo in sample))
    main = sum(len(found.infer_ms) == len(bundle.stages) for found in answers)
    return {"photos": len(sample), "cpu_ms": round(1000 * cpu / len(sample), 3), "reached_main": main / len(sample)}


def _enlarged(photos: list[Path], folder: Path, side: int) -> Iterator[Path]:
    for i, photo in enumerate(photos):
        target = folder / f"{i}.jpg"
        with Image.open(photo) as image:
            image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC).save(target, quality=90)
        yield target


def _decoding(photos: list[Path]) -> Row:
    cpu = _cpu(lambda: [decode(photo, 320) for photo in photos])
    return {
        "cpu_ms": round(1000 * cpu / len(photos), 3),
        "kB": round(sum(p.stat().st_size for p in photos) / len(photos) / 1e3, 1),
    }


def _cpu(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return round(time.process_time() - start, 3)


MEASURES: dict[str, Callable[[argparse.Namespace], Row]] = {
    "loop": loop,
    "ray": ray,
    "rows": many,
    "cost": cost,
    "cascade": cascade,
}

if __name__ == "__main__":
    main()
