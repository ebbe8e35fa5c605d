"""Stage test_sets: a balanced test set and imbalanced ones, as tables and optionally as folders of links."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.config import Config
from pipeline.console import log
from pipeline.dataset.copying import place_one
from pipeline.dataset.manifest import experiment_manifest
from pipeline.dataset.stages.label import LABEL_FILES
from pipeline.dataset.stages.manifest import MANIFEST_FILES
from pipeline.dataset.stages.stage import Stage
from pipeline.dataset.test_sets import BALANCED, draw_test_sets
from pipeline.files import read_json, safe_name, sha256, write_json, write_parquet

FOLDER = "test_sets"
SUMMARY, DISTRIBUTION = f"{FOLDER}/test_sets_summary.json", f"{FOLDER}/distribution_info.json"
WHOLE = "test"  # the exported folder of the whole test split


def table_file(name: str) -> str:
    """The table of one set, in the data set's folder."""
    return f"{FOLDER}/{name}.parquet"


def _inputs(config: Config) -> dict[str, Any]:
    settings = config.test_sets.model_dump(mode="json")
    files = [sha256(config.dataset_dir / file) for file in (MANIFEST_FILES[0], LABEL_FILES[2])]
    return {"files": files, "settings": settings, "seed": config.seed, "mode": config.dataset.copy_mode}


def _outputs(config: Config) -> list[str]:
    return [*(table_file(name) for name in (BALANCED, *config.test_sets.sets)), DISTRIBUTION, SUMMARY]


def _run(config: Config) -> str:
    folder, wanted = config.dataset_dir, config.test_sets
    test = experiment_manifest(config).part("test")
    ranks = read_json(folder / LABEL_FILES[2], "ranks of the species (stage label)")["class_counts_sorted"]
    ranking = [row["class_name"] for row in ranks]
    sets = draw_test_sets(test, ranking, wanted.sets, wanted.window, wanted.size, config.seed)
    shutil.rmtree(folder / FOLDER, ignore_errors=True)  # also of sets that are no longer configured
    for name, drawn in sets.items():
        write_parquet(folder / table_file(name), drawn.rows)
        if "note" in drawn.summary:
            log.warning("  %s: %d photos: %s", name, len(drawn.rows), drawn.summary["note"])
    write_json(folder / DISTRIBUTION, {name: drawn.distribution for name, drawn in sets.items()})
    write_json(folder / SUMMARY, {name: drawn.summary for name, drawn in sets.items()})
    _export(config)
    return ", ".join(f"{name} {len(drawn.rows)}" for name, drawn in sets.items()) + f" photos, in {folder / FOLDER}"


def _links(config: Config) -> Iterator[tuple[Path, Path]]:
    """Photo and place of each exported link: <set>/<species>/<species>_0001.jpg."""
    folder = config.dataset_dir
    tables = {name: folder / table_file(name) for name in (BALANCED, *config.test_sets.sets)}
    for name, path in {WHOLE: folder / f"{WHOLE}.parquet", **tables}.items():
        rows = pd.read_parquet(path, columns=["image_path", "species"]).sort_values("image_path")
        for safe, members in rows.groupby(rows["species"].map(safe_name)):
            for number, photo in enumerate(members["image_path"], 1):
                place = folder / FOLDER / name / str(safe) / f"{safe}_{number:04}{Path(photo).suffix.lower()}"
                yield config.paths.dst_dataset / photo, place


def _export(config: Config) -> None:
    if config.test_sets.export:
        for photo, place in _links(config):
            place_one(photo, place, config.dataset.copy_mode)


def _intact(config: Config) -> bool:
    return not config.test_sets.export or all(place.is_file() for _, place in _links(config))


STAGE = Stage("test_sets", _inputs, _outputs, _run, _intact)
