"""Stage plots: pictures of the data set."""

from __future__ import annotations

from typing import Any

from pipeline.config import Config
from pipeline.dataset import plots
from pipeline.dataset.manifest import read_manifest
from pipeline.dataset.stages.manifest import MANIFEST_FILES
from pipeline.dataset.stages.stage import Stage
from pipeline.files import safe_name, sha256


def _inputs(config: Config) -> dict[str, Any]:
    return {"manifest": sha256(config.dataset_dir / MANIFEST_FILES[0])}


def _outputs(config: Config) -> list[str]:
    groups = [safe_name(group) for group in config.global_.included_classes]
    kinds = ["bar", "cumulative"]
    return [f"plots/{group}_{kind}.png" for group in groups for kind in kinds] + ["plots/splits.png"]


def _run(config: Config) -> str:
    manifest = read_manifest(config.dataset_dir, config.paths.dst_dataset)
    composition = manifest.composition()
    folder = config.dataset_dir / "plots"
    for group in config.global_.included_classes:
        counts = composition.get(group, {})
        plots.bars(counts, f"{group}: photos per species", folder / f"{safe_name(group)}_bar.png")
        plots.cumulative(counts, f"{group}: cumulative share of photos", folder / f"{safe_name(group)}_cumulative.png")
    plots.splits(manifest.rows, folder / "splits.png")
    return f"{len(_outputs(config))} pictures in {folder}"


STAGE = Stage("plots", _inputs, _outputs, _run)
