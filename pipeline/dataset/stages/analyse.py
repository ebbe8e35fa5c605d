"""Stage analyse: which species the photos have, and how many of each."""

from __future__ import annotations

from typing import Any

from pipeline.config import Config
from pipeline.dataset.composition import compose
from pipeline.dataset.stages.listing import analysis_files, source
from pipeline.dataset.stages.stage import Stage
from pipeline.errors import DataError
from pipeline.files import write_json


def _inputs(config: Config) -> dict[str, Any]:
    found = source(config)
    return {"composition": compose(found.photos, found.species)}


def _run(config: Config) -> str:
    species, photos, others = source(config)
    if not photos:
        raise DataError(f"no photos below {config.paths.src_dataset}; expected <group>/<species>/<photo>.jpg")
    for path, data in zip(analysis_files(config), (species, compose(photos, species)), strict=True):
        write_json(config.dataset_dir / path, data)
    ignored = f"; {len(others)} other files ignored, e.g. {others[0]}" if others else ""
    return f"{len(photos)} photos of {sum(map(len, species.values()))} species in {len(species)} groups{ignored}"


STAGE = Stage("analyse", _inputs, analysis_files, _run)
