#!/usr/bin/env python3
"""Open Data at size: draw a snapshot of so many photo rows, query it, tell time and memory. See open_data.md.

    python benchmarks/open_data.py FOLDER --photos 20000000 --memory-gb 3

The snapshot is drawn into FOLDER/<rows> once; each query runs in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import duckdb

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipeline.dataset.sources.open_data import Query, search

RESULTS = Path(__file__).resolve().parent / "results" / "open_data.json"
FORM = "(FORMAT csv, DELIMITER '\t', HEADER, QUOTE '', ESCAPE '', COMPRESSION gzip)"
SPECIES, OBSERVATIONS_PER_PHOTO, PHOTOS_PER_OBSERVER = 400_000, 0.6, 150
GROUPS = {"Plantae": 47126, "Insecta": 47158, "Aves": 3, "Fungi": 47170, "Arachnida": 47119, "Mammalia": 40151}
DIAMOND = [[1.25, 42.7], [2.1, 43.3], [1.25, 43.9], [0.4, 43.3], [1.25, 42.7]]  # in the department's box
AREAS = {"department": (0.4, 42.7, 2.1, 43.9), "polygon": None, "western Europe": (-9.0, 36.0, 15.0, 59.0)}
# one observation in 500 lies in the box of Haute-Garonne, one in ten in that of western Europe, the others anywhere on Earth
TABLES = {
    "taxa": """
        SELECT 10000000 + i AS taxon_id,
               '48460/1/2/' || list_extract($ids, i % len($ids) + 1) || '/' || (5000000 + i // 9)
               || CASE WHEN i % 10 = 9 THEN '/' || (9999999 + i) ELSE '' END AS ancestry,
               CASE WHEN i % 10 = 9 THEN 5 ELSE 10 END AS rank_level,
               CASE WHEN i % 10 = 9 THEN 'subspecies' ELSE 'species' END AS rank,
               'Genus' || (i // 9) || ' species' || i AS name, true AS active
        FROM range($species) t(i)""",
    "observers": """
        SELECT i AS observer_id, 'login' || i AS login, CASE WHEN i % 3 = 0 THEN 'Name O''' || i ELSE '' END AS name
        FROM range($observers) t(i)""",
    "observations": """
        SELECT md5(i::VARCHAR)::UUID AS observation_uuid, hash(i) % $observers AS observer_id,
               CASE WHEN h % 500 = 0 THEN 42.7 + u * 1.2 WHEN h % 10 = 1 THEN 36 + u * 23 ELSE u * 180 - 90 END AS latitude,
               CASE WHEN h % 500 = 0 THEN 0.4 + v * 1.7 WHEN h % 10 = 1 THEN v * 24 - 9 ELSE v * 360 - 180 END AS longitude,
               h % 300 AS positional_accuracy, 10000000 + floor($species * pow(w, 4))::BIGINT AS taxon_id,
               CASE WHEN h % 100 < 55 THEN 'research' WHEN h % 100 < 90 THEN 'needs_id' ELSE 'casual' END AS quality_grade,
               DATE '2008-01-01' + (pow(hash(i, 5) % 1000 / 1000.0, 0.3) * 6500)::INTEGER AS observed_on,
               (h % 1000) / 700.0 AS anomaly_score
        FROM (SELECT i, hash(i, 1) AS h, hash(i, 2) % 1000000 / 1e6 AS u, hash(i, 3) % 1000000 / 1e6 AS v,
                     hash(i, 4) % 1000000 / 1e6 AS w FROM range($observations) t(i))""",
    "photos": """
        SELECT md5('p' || i)::UUID AS photo_uuid, 1000 + i AS photo_id,
               md5(floor(i * $share)::BIGINT::VARCHAR)::UUID AS observation_uuid,
               hash(floor(i * $share)::BIGINT) % $observers AS observer_id,
               CASE WHEN i % 7 = 0 THEN 'jpeg' ELSE 'jpg' END AS extension,
               list_extract(['CC-BY-NC', 'CC-BY-NC', 'CC-BY-NC', 'CC-BY', 'CC0', 'CC-BY-SA'], (hash(i) % 6 + 1)::INTEGER)
               AS license,
               2048 AS width, 1536 AS height, 0 AS position FROM range($photos) t(i)""",
}


def draw(folder: Path, photos: int) -> None:
    """Write the four tables."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "ids": list(GROUPS.values()),
        "species": SPECIES,
        "observers": max(1, photos // PHOTOS_PER_OBSERVER),
        "observations": int(photos * OBSERVATIONS_PER_PHOTO),
        "photos": photos,
        "share": OBSERVATIONS_PER_PHOTO,
    }
    with duckdb.connect(config={"memory_limit": "2GB"}) as db:
        for name, sql in TABLES.items():
            used = {key: value for key, value in settings.items() if f"${key}" in sql}
            db.execute(f"COPY ({sql}) TO '{folder / name}.csv.gz' {FORM}", used)


def measure(folder: Path, area: tuple[float, float, float, float] | Path, memory_gb: float) -> dict[str, float]:
    """One query in this process."""
    query = Query(area, list(GROUPS), date(2015, 1, 1), None, "research", ["CC0", "CC-BY", "CC-BY-NC"])
    start, cpu = time.perf_counter(), time.process_time()
    found = search(folder, query, folder / "found.parquet", memory_gb)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    with duckdb.connect() as db:
        photos = db.execute(f"SELECT count(*) FROM '{folder / 'found.parquet'}'").fetchall()[0][0]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    return {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "peak_gib": round(peak, 2),
        "species": sum(map(len, found.species.values())),
        "observations": sum(sum(counts.values()) for counts in found.observations.values()),
        "photos": photos,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=2_000_000)
    parser.add_argument("--memory-gb", type=float, default=3.0)
    parser.add_argument("--one", choices=list(AREAS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    folder = given.folder / str(given.photos)
    if given.one:
        polygon = folder / "polygon.geojson"
        polygon.write_text(json.dumps({"type": "Polygon", "coordinates": [DIAMOND]}))
        print(json.dumps(measure(folder, AREAS[given.one] or polygon, given.memory_gb)))
        return
    if not (folder / "drawn").is_file():
        draw(folder, given.photos)
        (folder / "drawn").touch()
    sizes = {path.name: path.stat().st_size for path in sorted(folder.glob("*.csv.gz"))}
    result: dict[str, Any] = {
        "photo_rows": given.photos,
        "observation_rows": int(given.photos * OBSERVATIONS_PER_PHOTO),
        "gz_bytes": sizes,
        "memory_gb": given.memory_gb,
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "versions": {"duckdb": duckdb.__version__, "python": platform.python_version()},
        "queries": {},
    }
    for name in AREAS:  # each in a process of its own, for its own peak of memory
        command = [sys.executable, __file__, str(given.folder), "--photos", str(given.photos), "--one", name]
        command += ["--memory-gb", str(given.memory_gb)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)
        result["queries"][name] = json.loads(done.stdout)
        print(name, result["queries"][name], flush=True)
        known = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
        RESULTS.write_text(json.dumps(known | {str(given.photos): result}, indent=2) + "\n")


if __name__ == "__main__":
    main()
