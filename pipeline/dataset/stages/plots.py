"""Stage plots: pictures of the data set, and an index that names each with its caption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.config import Config
from pipeline.dataset.composition import Composition
from pipeline.dataset.manifest import experiment_manifest
from pipeline.dataset.overlap import overlaps
from pipeline.dataset.stages.listing import analysis_files, matched_file
from pipeline.dataset.stages.manifest import MANIFEST_FILES
from pipeline.dataset.stages.match import REPORT
from pipeline.dataset.stages.stage import Stage
from pipeline.files import read_json, sha256, write_json

INDEX = "plots/index.json"


def _inputs(config: Config) -> dict[str, Any]:
    files = (MANIFEST_FILES[0], matched_file(config), REPORT, analysis_files(config)[1])
    return {
        "files": [sha256(config.dataset_dir / file) for file in files],
        "groups": config.global_.included_classes,
        "examples": config.dataset.examples,
    }


def _run(config: Config) -> str:
    from pipeline.dataset.pictures import draw, pictures  # slow to import

    manifest = experiment_manifest(config)
    matched = read_json(config.dataset_dir / matched_file(config), "matched species list (stage match)")
    report = read_json(config.dataset_dir / REPORT, "report of the match (stage match)")
    unmatched = report["only_in_photos"], report["only_in_region"]
    common = overlaps(matched, *unmatched) if any(any(names.values()) for names in unmatched) else {}
    source: Composition = read_json(config.dataset_dir / analysis_files(config)[1], "composition (stage analyse)")
    source = source if any(report["only_in_photos"].values()) else {}
    wanted = pictures(manifest, config.global_.included_classes, common, config.dataset.examples, source)
    folder = config.dataset_dir / "plots"
    _remove(folder, {picture.file for picture in wanted})
    draw(wanted, folder, config.dataset.workers)
    rows = [{"file": p.file, "caption": p.caption, "sha256": sha256(folder / p.file)} for p in wanted]
    write_json(config.dataset_dir / INDEX, rows)
    return f"{len(wanted)} pictures in {folder}"


def _remove(folder: Path, wanted: set[str]) -> None:
    """Pictures of an earlier run that this one does not draw, e.g. of a group that is no longer included."""
    if (index := folder / Path(INDEX).name).is_file():
        for row in read_json(index, "index of the pictures"):
            if row["file"] not in wanted:
                (folder / Path(row["file"]).name).unlink(missing_ok=True)


def _intact(config: Config) -> bool:
    folder = config.dataset_dir / "plots"
    rows = read_json(config.dataset_dir / INDEX, "index of the pictures")
    return all((folder / row["file"]).is_file() and sha256(folder / row["file"]) == row["sha256"] for row in rows)


STAGE = Stage("plots", _inputs, lambda config: [INDEX], _run, _intact)
